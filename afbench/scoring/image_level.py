"""Tell forged images from authentic ones, each by one score of the whole image: AUC, balanced accuracy, false-positive rate.

These figures stand beside F1 and RP, which say how well pixels are found, and are never averaged with them. Authentic images are
stored as they are: an attack hides a forgery, and they have none. So before and after an attack the forged images differ, and the
authentic ones, with their false-positive rate, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from afbench.core import UsageError
from afbench.metrics import auc
from afbench.plans import ATTACKS
from afbench.storage.manifests import AUTHENTIC

from .resampling import Interval
from .score_tables import CONTROLS
from .statistics import number_images

ALL_SOURCES = "all"
WORST_CASE = "worst-case"
"""Stands for the attack that left the lowest score of each forged image."""
SHARE, MAX, TOP1, OWN = "share", "max", "top1", "own"
IMAGE_SCORES = (TOP1, MAX, SHARE, OWN)
OWN_THRESHOLD = 0.5
"""Above it a localizer's own score calls an image forged."""
_COLUMNS = {SHARE: "image_share", MAX: "image_max", TOP1: "image_top1", OWN: "image_own"}
_Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def pixel_thresholds(localizers: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the threshold on the probability that a benchmark records of each localizer, where it does."""
    thresholds = {name: localizer.get("threshold") for name, localizer in localizers.items()}
    return {name: float(value) for name, value in thresholds.items() if value is not None}


def require_score(records: Sequence[Mapping[str, Any]], score: str | None) -> None:
    """Refuse a score that a user asked for and no image of any record has; without records there is nothing to choose from.

    Raises:
        UsageError: with the scores that there are.
    """
    scores = list(dict.fromkeys(record["score"] for record in records))
    if score is not None and scores and score not in scores:
        raise unknown_score(score, f"known: {', '.join(scores)}")


def unknown_score(score: str, reason: str) -> UsageError:
    """Return the error that says why a score of images is not there, and what it needs."""
    needs = (
        "a localizer with image_score, which `afbench evaluate` asks"
        if score == OWN
        else "the probability maps of all images, which `afbench predict --probabilities` writes"
    )
    return UsageError(f"--image-score {score} is not known here; {reason}; it needs {needs}")


def image_level(per_image: pd.DataFrame, pixel_threshold: Mapping[str, float]) -> list[dict[str, Any]]:
    """Compute the image-level figures of every localizer, source, score and attack; ``clean`` is before the attack.

    The score ``share`` is the share of pixels in the predicted mask, with threshold 0: one pixel makes an image forged. ``max``
    and ``top1`` are the highest probability and the mean of the top 1 %, with the localizer's threshold of a pixel; ``own`` is
    the localizer's own. A score has figures only where all images of the comparison have it. Several settings of an attack
    count alike; ``worst-case`` takes of each image the lowest score that any attack left. Sources without authentic images have no figures; ``all`` pools the others, where they are several.

    Args:
        per_image: one row per localizer, config, source and sample, as ``score_tables.build_tables`` takes it.
        pixel_threshold: of each localizer.
    Returns:
        Plain dicts, as manifests/schema/score.schema.json describes them; intervals are 95 % ones.
    """
    figures: list[dict[str, Any]] = []
    for localizer, of_localizer in _image_rows(per_image).groupby("localizer", sort=True):
        threshold = pixel_threshold.get(str(localizer))
        thresholds = {SHARE: 0.0, MAX: threshold, TOP1: threshold, OWN: OWN_THRESHOLD}
        for source, of_source in _sources(of_localizer):
            head = {"localizer": str(localizer), "source": source}
            figures += [head | record for record in _records(of_source, thresholds)]
    return figures


def _image_rows(per_image: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that decide the figures, with the number of each row's image."""
    counts = {name: per_image[name].to_numpy(np.int64) for name in ("tp", "fp", "fn", "tn")}
    pixels = sum(counts.values())
    # rows are chosen hundreds of times, which takes Arrow strings ten times as long as Python's
    texts = ("localizer", "source", "config", "attack")
    image, _ = number_images(per_image["source"], per_image["sample_id"])
    return pd.DataFrame(
        {
            **{name: pd.Series(per_image[name].astype(str).to_numpy(object), dtype=object) for name in texts},
            "image": image,
            "image_share": (counts["tp"] + counts["fp"]) / pixels,
            **{
                name: per_image[name].to_numpy(np.float64)
                for name in (_COLUMNS[score] for score in (MAX, TOP1, OWN))
                if name in per_image
            },
        }
    )


def _sources(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the sources that have authentic and forged images, and all of these together."""
    is_authentic = rows["config"] == AUTHENTIC
    sources = sorted(set(rows.loc[is_authentic, "source"]) & set(rows.loc[~is_authentic, "source"]))
    for source in sources:
        yield str(source), rows[rows["source"] == source]
    if len(sources) > 1:
        yield ALL_SOURCES, rows[rows["source"].isin(sources)]


def _records(rows: pd.DataFrame, thresholds: Mapping[str, float | None]) -> Iterator[dict[str, Any]]:
    """Yield the figures of one source, score by score and attack by attack."""
    is_authentic = rows["config"] == AUTHENTIC
    forged, authentic = rows[~is_authentic], rows[is_authentic]
    order = ["clean", *ATTACKS, *sorted(set(forged["attack"]))]
    attacks = sorted(set(forged["attack"]), key=order.index)
    by_attack = {attack: forged[forged["attack"] == attack] for attack in attacks}
    attacked_rows = forged[~forged["attack"].isin(CONTROLS)]
    if attacked_rows["config"].nunique() > 1:
        by_attack[WORST_CASE] = attacked_rows
    for score, column in _COLUMNS.items():
        threshold = thresholds[score]
        if threshold is None or not _all_scored(column, authentic):
            continue
        for attack, attacked in by_attack.items():
            if _all_scored(column, attacked):
                images = _lowest(column, attacked) if attack == WORST_CASE else attacked
                yield {"attack": attack, "score": score, **_figures(column, threshold, images, authentic)}


def _all_scored(column: str, rows: pd.DataFrame) -> bool:
    return column in rows and bool(rows[column].notna().all())


def _lowest(column: str, rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby("image", as_index=False)[column].min()


def _figures(
    column: str, threshold: float, attacked: pd.DataFrame, authentic: pd.DataFrame
) -> dict[str, Any]:
    forged_scores, authentic_scores = (rows[column].to_numpy(np.float64) for rows in (attacked, authentic))
    # a forged image has a row for each setting of the attack, but is one image
    images, authentic_images = attacked["image"].nunique(), len(authentic)
    scores = np.concatenate([forged_scores, authentic_scores])
    area = auc(scores, np.arange(len(scores)) < len(forged_scores))
    tpr, fpr = float(np.mean(forged_scores > threshold)), float(np.mean(authentic_scores > threshold))
    found, alarms = _wilson(tpr, images), _wilson(fpr, authentic_images)
    # two proportions of different images: their errors add up in squares (Newcombe 1998, method 10)
    below = math.hypot(tpr - found.low, alarms.high - fpr) / 2
    above = math.hypot(found.high - tpr, fpr - alarms.low) / 2
    accuracy = (tpr + 1 - fpr) / 2
    return {
        "threshold": float(threshold),
        "images": images,
        "authentic": authentic_images,
        "auc": area,
        "auc_ci": list(_auc_interval(area, images, authentic_images)),
        "balanced_accuracy": accuracy,
        "balanced_accuracy_ci": [max(0.0, accuracy - below), min(1.0, accuracy + above)],
        "tpr": tpr,
        "fpr": fpr,
        "fpr_ci": list(alarms),
    }


def _wilson(share: float, images: int) -> Interval:
    """Return the 95 % interval of a proportion (Wilson 1927); it has a width even where the share is 0 or 1.

    Where rows of one image are averaged first, the proportion varies less than this says.
    """
    spread = _Z * math.sqrt(share * (1 - share) / images + _Z**2 / (4 * images**2))
    centre, scale = share + _Z**2 / (2 * images), 1 + _Z**2 / images
    # rounding may put an end of 0 or 1 beyond the share
    return Interval(
        min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))
    )


def _auc_interval(area: float, forged: int, authentic: int) -> Interval:
    """Return the 95 % interval of an AUC (Newcombe 2006, Statistics in Medicine 25:559, method 5), which solves for its ends.

    A bootstrap of few images, or of scores that part them, would give ends that lie too close, or on the AUC itself.
    """
    half = (forged + authentic) / 2 - 1

    def is_inside(end: float) -> bool:
        factor = 1 + half * (1 - end) / (2 - end) + half * end / (1 + end)
        return (end - area) ** 2 <= _Z**2 * end * (1 - end) * factor / (forged * authentic)

    def solve(edge: float) -> float:
        inner, outer = area, edge
        for _ in range(50):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if is_inside(middle) else (inner, middle)
        return outer

    return Interval(solve(0.0) if area > 0 else 0.0, solve(1.0) if area < 1 else 1.0)
