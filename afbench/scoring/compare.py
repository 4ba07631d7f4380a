"""Whether two submissions differ: paired by sample, stratified by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from afbench.core import UsageError
from afbench.storage.manifests import AUTHENTIC

from .reading import KEY, Score
from .statistics import DRAWS, difference_interval
from .tables import CONTROLS
from .versions import difference

ALL_ATTACKS = "all"
"""Every image of every attack and setting together, without originals and random noise: what boards rank by."""


@dataclass(frozen=True)
class Difference:
    """First minus second with its 95 % interval; a tie where that holds 0. None where undefined."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    tie: bool | None


@dataclass(frozen=True)
class Comparison:
    """Two submissions under one attack (``clean``: the originals): F1 in [0, 1], RP in percent, both over ``rows`` images."""

    localizer: str
    attack: str
    rows: int
    f1: Difference
    rp: Difference


def compare(first: Score, second: Score, *, draws: int = DRAWS, seed: int = 0) -> list[Comparison]:
    """Compare over all attacks, on the originals, and per attack; images where either F1 is undefined count nowhere.

    Raises:
        UsageError: if they are of different dataset versions, or hold different images.
    """
    table = paired(first, second)
    results = []
    for localizer, mine in table.groupby("localizer", sort=True):
        attacks = [ALL_ATTACKS, "clean", *sorted(set(mine["attack"]) - {"clean"})]
        for attack in attacks:
            everything = ~mine["attack"].isin(CONTROLS)
            rows = mine[everything if attack == ALL_ATTACKS else mine["attack"] == attack]
            if len(rows):
                results.append(_compare(str(localizer), attack, rows, draws, seed))
    return results


def paired(first: Score, second: Score) -> pd.DataFrame:
    """The rows where both scores are defined, side by side: ``f1_first``, ``f1_second``, ordered by image.

    Raises:
        UsageError: if they are of different dataset versions, or hold different images.
    """
    require_same_images(first, second)
    one, two = (_forged(score).set_index(KEY).sort_index() for score in (first, second))
    table = one[["attack", "f1_original"]].assign(f1_first=one["f1"], f1_second=two["f1"])
    return table[one["defined"] & two["defined"]].reset_index()


def require_same_images(first: Score, second: Score) -> None:
    """Refuse to pair what cannot be paired.

    Raises:
        UsageError: if the dataset versions differ, or an image of one is not in the other.
    """
    versions = [str(score.about["dataset_version"]) for score in (first, second)]
    if versions[0] != versions[1]:
        raise UsageError(
            f"'{first.folder}' and '{second.folder}' score different dataset versions, "
            f"{versions[0]} and {versions[1]}{_differ(first, second)}"
        )
    require_same_rows(first, second)


def require_same_rows(first: Score, second: Score) -> None:
    """Refuse to pair scores of which one holds images that the other lacks.

    Raises:
        UsageError: with how many, and the first.
    """
    indices = [pd.MultiIndex.from_frame(_forged(score)[KEY]) for score in (first, second)]
    for mine, theirs, having, lacking in ((0, 1, first, second), (1, 0, second, first)):
        missing = indices[mine].difference(indices[theirs])
        if len(missing):
            raise UsageError(
                f"'{first.folder}' and '{second.folder}' score different images: {len(missing)} of "
                f"'{having.folder}' are not in '{lacking.folder}', first {'/'.join(map(str, missing[0]))}"
            )


def _differ(first: Score, second: Score) -> str:
    """What makes two dataset versions two, as far as the scores say."""
    parts = [score.about.get("configs_sha256") or {} for score in (first, second)]
    if not all(parts):
        return "; score both on one benchmark, with one version of afbench"
    differences = [
        f"{localizer}: {text}"
        for localizer in sorted(parts[0].keys() | parts[1].keys())
        if (text := difference(*(part.get(localizer, {}) for part in parts)))
    ]
    return f" ({'; '.join(differences)}); `afbench predict` onto a submission's folder adds configs, then score it again"


def _forged(score: Score) -> pd.DataFrame:
    """The rows of images that have an F1; those of authentic ones are optional."""
    return score.per_image[score.per_image["config"] != AUTHENTIC]


def _compare(localizer: str, attack: str, rows: pd.DataFrame, draws: int, seed: int) -> Comparison:
    means = [_mean(rows[name]) for name in ("f1_first", "f1_second", "f1_original")]
    rps = [100.0 * mean / means[2] if mean is not None and means[2] else None for mean in means[:2]]
    images = rows["f1_first"], rows["f1_second"], rows["source"], rows["sample_id"]
    return Comparison(
        localizer,
        attack,
        len(rows),
        _difference(means[:2], difference_interval(*images, draws=draws, seed=seed)),
        _difference(
            rps, difference_interval(*images, f1_original=rows["f1_original"], draws=draws, seed=seed)
        ),
    )


def _mean(values: pd.Series) -> float | None:
    return float(values.mean()) if len(values) else None


def _difference(values: Sequence[float | None], interval: Any) -> Difference:
    first, second = values
    gap = None if first is None or second is None else first - second
    if interval is None or gap is None:
        return Difference(first, second, gap, None, None, None)
    return Difference(first, second, gap, interval.low, interval.high, interval.holds_zero())


def comparison_json(first: Score, second: Score, results: Sequence[Comparison]) -> dict[str, Any]:
    """The comparison as plain data."""
    return {
        "first": first.about["submission_id"],
        "second": second.about["submission_id"],
        "dataset_version": first.about["dataset_version"],
        "attacks": [asdict(result) for result in results],
    }
