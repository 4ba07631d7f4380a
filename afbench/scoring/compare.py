"""Compare two submissions, paired by sample and stratified by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from afbench.core import UsageError
from afbench.storage.manifests import AUTHENTIC

from .resampling import DRAWS
from .score_tables import CONTROLS
from .statistics import difference_interval
from .stored_scores import KEY, StoredScore
from .versions import difference

ALL_ATTACKS = "all"
"""Every image of every attack and setting together, without originals and random noise: what boards rank by."""


@dataclass(frozen=True)
class Difference:
    """First minus second with its 95 % interval: a ``tie`` if the interval holds 0; None where undefined."""

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


def compare(
    first: StoredScore, second: StoredScore, *, draws: int = DRAWS, seed: int = 0
) -> list[Comparison]:
    """Compare over all attacks, on the originals, and per attack; leave out images where either F1 is undefined.

    Raises:
        UsageError: if they are of different dataset versions, or hold different images.
    """
    table = paired(first, second)
    results = []
    for localizer, localizer_rows in table.groupby("localizer", sort=True):
        attacks = [ALL_ATTACKS, "clean", *sorted(set(localizer_rows["attack"]) - {"clean"})]
        for attack in attacks:
            is_attacked = ~localizer_rows["attack"].isin(CONTROLS)
            rows = localizer_rows[
                is_attacked if attack == ALL_ATTACKS else localizer_rows["attack"] == attack
            ]
            if len(rows):
                results.append(_compare(str(localizer), attack, rows, draws, seed))
    return results


def paired(first: StoredScore, second: StoredScore) -> pd.DataFrame:
    """Join the rows where both scores are defined: ``f1_first`` and ``f1_second``, ordered by image.

    Raises:
        UsageError: if they are of different dataset versions, or hold different images.
    """
    require_same_images(first, second)
    first_rows, second_rows = (_forged(score).set_index(KEY).sort_index() for score in (first, second))
    table = first_rows[["attack", "f1_original"]].assign(
        f1_first=first_rows["f1"], f1_second=second_rows["f1"]
    )
    return table[first_rows["defined"] & second_rows["defined"]].reset_index()


def require_same_images(first: StoredScore, second: StoredScore) -> None:
    """Refuse scores that cannot be paired.

    Raises:
        UsageError: if the dataset versions differ, or an image of one is not in the other.
    """
    versions = [str(score.record["dataset_version"]) for score in (first, second)]
    if versions[0] != versions[1]:
        raise UsageError(
            f"'{first.folder}' and '{second.folder}' score different dataset versions, "
            f"{versions[0]} and {versions[1]}{_version_difference(first, second)}"
        )
    require_same_rows(first, second)


def require_same_rows(first: StoredScore, second: StoredScore) -> None:
    """Refuse scores of which one holds images that the other lacks.

    Raises:
        UsageError: with how many, and the first.
    """
    indices = [pd.MultiIndex.from_frame(_forged(score)[KEY]) for score in (first, second)]
    for having_index, lacking_index, having, lacking in ((0, 1, first, second), (1, 0, second, first)):
        missing = indices[having_index].difference(indices[lacking_index])
        if len(missing):
            raise UsageError(
                f"'{first.folder}' and '{second.folder}' score different images: {len(missing)} of "
                f"'{having.folder}' are not in '{lacking.folder}', first {'/'.join(map(str, missing[0]))}"
            )


def _version_difference(first: StoredScore, second: StoredScore) -> str:
    """Explain how two dataset versions differ, as far as the scores record it."""
    parts = [score.record.get("configs_sha256") or {} for score in (first, second)]
    if not all(parts):
        return "; score both on one benchmark, with one version of afbench"
    differences = [
        f"{localizer}: {text}"
        for localizer in sorted(parts[0].keys() | parts[1].keys())
        if (text := difference(*(part.get(localizer, {}) for part in parts)))
    ]
    return f" ({'; '.join(differences)}); `afbench predict` onto a submission's folder adds configs, then score it again"


def _forged(score: StoredScore) -> pd.DataFrame:
    """Return the rows of images that have an F1; rows of authentic images are optional."""
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


def comparison_json(first: StoredScore, second: StoredScore, results: Sequence[Comparison]) -> dict[str, Any]:
    """Return the comparison as plain data."""
    return {
        "first": first.record["submission_id"],
        "second": second.record["submission_id"],
        "dataset_version": first.record["dataset_version"],
        "attacks": [asdict(result) for result in results],
    }
