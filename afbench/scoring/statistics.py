"""Compute intervals by bootstrap over images, paired by sample, stratified by source.

An image is drawn with all its rows, so configs and submissions that share images are compared on the same draws.
Intervals are percentile intervals. The same images give the same bytes, whatever the order of the rows, the machine or its
threads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from afbench.metrics import FloatArray

DRAWS = 2000
LEVEL = 0.95
_AT_ONCE = 2**21
"""Images drawn at a time: tens of megabytes, however many images there are."""
_MOST_UNDEFINED = 0.05
"""Share of draws that may lack a value (no defined image, or F1 0 on all originals) before an interval means nothing."""


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float

    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


class RankedSubmission(NamedTuple):
    """A submission with its rank: submissions of one ``rank`` tie.

    ``behind`` is the interval of its difference to the leader it was compared with: it holds 0 for those who tie, and
    ends below 0 for the first of each next group. The best of all has (0, 0).
    """

    rank: int
    name: str
    value: float
    behind: Interval | None


def resample(
    columns: FloatArray, sources: Sequence[str], *, draws: int = DRAWS, seed: int = 0
) -> dict[str, FloatArray]:
    """Sum columns over images that are drawn with replacement, as many of every source as it has.

    Args:
        columns: finite ``(N, K)``, one row per image, in an order that depends on nothing but the images.
        sources: the source of each image.
    Returns:
        By source, in order of names, ``(draws, K)``. A source's draws depend on its name, its number of images and the
        seed alone: adding a source moves no other's interval.
    Raises:
        ValueError: if the lengths differ.
    """
    source_names = np.asarray(sources, dtype=object)
    if len(source_names) != len(columns):
        raise ValueError(f"{len(columns)} images have {len(source_names)} sources")
    return {
        str(name): _resample_source(columns[source_names == name], draws, [seed, *str(name).encode()])
        for name in sorted(set(source_names.tolist()))
    }


def _resample_source(columns: FloatArray, draws: int, entropy: Sequence[int]) -> FloatArray:
    count, width = columns.shape
    bits = np.random.PCG64(np.random.SeedSequence(entropy))
    columns = on_grid(columns)
    sums = np.empty((draws, width))
    step = max(1, _AT_ONCE // count)
    for first in range(0, draws, step):
        size = min(step, draws - first)
        # raw words, whose stream numpy promises to keep; scaled, an image's chance is off by at most 2**-32
        words = bits.random_raw((size * count + 1) // 2).astype("<u8").view("<u4")[: size * count]
        picks = ((words.astype(np.uint64) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)
        picks += np.repeat(np.arange(size) * count, count)
        times = np.bincount(picks, minlength=size * count).reshape(size, count)
        sums[first : first + size] = times.astype(np.float64) @ columns
    return sums


def on_grid(values: FloatArray) -> FloatArray:
    """Round to multiples of a power of two that sums of all of them hold exactly.

    Sums then come out alike in any order and on any number of threads. It moves an F1 by less than 1e-9.
    """
    largest_sum = float(np.abs(values).max(initial=0.0)) * len(values)
    if not largest_sum:
        return values
    grid = math.ldexp(1.0, 52 - math.frexp(largest_sum)[1])
    return np.asarray(np.rint(values * grid) / grid)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide draw by draw; NaN where ``denominator`` is 0."""
    out = np.full(numerator.shape, math.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def interval(values: FloatArray) -> Interval | None:
    """Return the 95 % interval of a figure over its draws; None where too many draws are NaN."""
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - _MOST_UNDEFINED) * len(values):
        return None
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def mean_interval(
    values: npt.ArrayLike,
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of a mean over rows; rows of one source and sample are one image.

    NaN rows are left out. None with fewer than two images: one image says nothing of others.
    """
    images = _by_image([values], sources, samples)
    sums = _total(images, draws, seed)
    return None if sums is None else interval(ratio(sums[:, 0], sums[:, 1]))


def rp_interval(
    f1: npt.ArrayLike,
    f1_original: npt.ArrayLike,
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of RP in percent, both means over the same drawn images; otherwise as ``mean_interval``."""
    images = _by_image([f1, f1_original], sources, samples)
    sums = _total(images, draws, seed)
    return None if sums is None else interval(100.0 * ratio(sums[:, 0], sums[:, 1]))


def difference_interval(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    f1_original: npt.ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of the difference of two submissions, ``first`` minus ``second``, row by row of the same images.

    It is the difference of mean F1 or, with ``f1_original``, of RP in points.
    """
    gap = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if f1_original is None:
        return mean_interval(gap, sources, samples, draws=draws, seed=seed)
    return rp_interval(gap, f1_original, sources, samples, draws=draws, seed=seed)


def tie_groups(
    scores: Mapping[str, npt.ArrayLike],
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    f1_original: npt.ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[RankedSubmission]:
    """Rank submissions by mean F1 or, with ``f1_original``, by RP; those that cannot be told apart share a rank.

    The rule: from the best down, the first leads a group; each next one joins it while the paired 95 % interval of its
    difference to the leader holds 0 or is undefined. The first that falls clear of the leader leads the next group, even
    where a worse but less certain one would still reach the leader. A rank is one more than the number of submissions in
    better groups: 1, 1, 3.

    Args:
        scores: F1 of each submission by name, row by row of the same images.
        sources: of each row.
        samples: of each row; rows of one source and sample are one image.
        f1_original: F1 on the original of each row's sample.
    """
    names = sorted(scores)
    if not names:
        return []
    scale = 1.0 if f1_original is None else 100.0
    columns = [
        np.ones(len(sources)) if f1_original is None else f1_original,
        *(scores[name] for name in names),
    ]
    sums = _total(_by_image(columns, sources, samples), draws, seed)
    defined_values = np.stack([np.asarray(column, dtype=np.float64) for column in columns])
    defined_values = defined_values[:, np.isfinite(defined_values).all(axis=0)]
    totals = [math.fsum(column) for column in defined_values.tolist()]
    figures = {
        name: scale * total / totals[0] if totals[0] else math.nan
        for name, total in zip(names, totals[1:], strict=True)
    }
    column = {name: number for number, name in enumerate(names, 1)}

    def gap(name: str, leader: str) -> Interval | None:
        if sums is None:
            return None
        return interval(scale * ratio(sums[:, column[name]] - sums[:, column[leader]], sums[:, 0]))

    standings: list[RankedSubmission] = []
    leader, rank = "", 0
    for number, name in enumerate(sorted(names, key=lambda name: (-_least(figures[name]), name)), 1):
        behind = gap(name, leader) if standings else Interval(0.0, 0.0)
        if not standings or (behind and not behind.holds_zero()):
            leader, rank = name, number
        standings.append(RankedSubmission(rank, name, figures[name], behind))
    return standings


def _least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _by_image(
    columns: Sequence[npt.ArrayLike], sources: Sequence[str], samples: Sequence[str]
) -> tuple[FloatArray, npt.NDArray[Any]]:
    """Group rows by image, sorted: return the sums of each column and the number of rows, and the source of each image."""
    values = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    if not len(values) == len(sources) == len(samples):
        raise ValueError(f"{len(values)} rows have {len(sources)} sources and {len(samples)} samples")
    is_defined = np.isfinite(values).all(axis=1)
    values = on_grid(values[is_defined])
    source, sources_named = pd.factorize(np.asarray(sources, object)[is_defined], sort=True)
    sample, samples_named = pd.factorize(np.asarray(samples, object)[is_defined], sort=True)
    images, image = np.unique(source * len(samples_named) + sample, return_inverse=True)
    sums = [np.bincount(image, column, minlength=len(images)) for column in (*values.T, np.ones(len(image)))]
    return np.stack(sums, axis=1), sources_named[images // max(len(samples_named), 1)]


def _total(images: tuple[FloatArray, npt.NDArray[Any]], draws: int, seed: int) -> FloatArray | None:
    columns, sources = images
    if len(columns) < 2:
        return None
    sums_by_source = resample(columns, sources.tolist(), draws=draws, seed=seed)
    return np.asarray(np.stack(list(sums_by_source.values())).sum(axis=0))
