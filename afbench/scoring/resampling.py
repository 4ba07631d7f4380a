"""Draw images by bootstrap, paired by sample, stratified by source.

An image is drawn with all its rows, so configs and submissions that share images are compared on the same draws. The same images
give the same bytes, whatever the order of the rows, the machine or its threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from afbench.metrics import FloatArray

DRAWS = 2000
LEVEL = 0.95
_AT_ONCE = 2**21
"""Images drawn at a time: tens of megabytes, however many images there are."""
_REMEMBERED = 2**18
"""Size of a table of draws that is remembered: 2 MB for each of some sources."""
_MOST_UNDEFINED = 0.05
"""Share of draws that may lack a value (no defined image, or F1 0 on all originals) before an interval means nothing."""


class Interval(NamedTuple):
    """Ends of a 95 % interval."""

    low: float
    high: float

    def holds_zero(self) -> bool:
        return self.low <= 0 <= self.high


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
        str(name): _resample_source(columns[source_names == name], draws, (seed, *str(name).encode()))
        for name in sorted(set(source_names.tolist()))
    }


def _resample_source(columns: FloatArray, draws: int, entropy: tuple[int, ...]) -> FloatArray:
    count, width = columns.shape
    columns = on_grid(columns)
    if draws * count <= _REMEMBERED:
        return np.asarray(_remembered_times(draws, count, entropy) @ columns)
    sums = np.empty((draws, width))
    first = 0
    for times in _drawn_times(draws, count, entropy):
        sums[first : first + len(times)] = times @ columns
        first += len(times)
    return sums


@lru_cache(maxsize=32)
def _remembered_times(draws: int, count: int, entropy: tuple[int, ...]) -> FloatArray:
    # every figure of a score draws the same images
    return np.concatenate(list(_drawn_times(draws, count, entropy)))


def _drawn_times(draws: int, count: int, entropy: tuple[int, ...]) -> Iterator[FloatArray]:
    """Yield how often each image is in each draw ``(some draws, count)``."""
    bits = np.random.PCG64(np.random.SeedSequence(entropy))
    step = max(1, _AT_ONCE // count)
    for first in range(0, draws, step):
        size = min(step, draws - first)
        # raw words, whose stream numpy promises to keep; scaled, an image's chance is off by at most 2**-32
        words = bits.random_raw((size * count + 1) // 2).astype("<u8").view("<u4")[: size * count]
        picks = ((words.astype(np.uint64) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)
        picks += np.repeat(np.arange(size) * count, count)
        yield np.bincount(picks, minlength=size * count).reshape(size, count).astype(np.float64)


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


def too_undefined(values: FloatArray) -> bool:
    """Return whether so many draws have no value that an interval means nothing."""
    return bool(np.isnan(values).mean() > _MOST_UNDEFINED)


def interval(values: FloatArray) -> Interval | None:
    """Return the 95 % percentile interval of a figure over its draws; None where too many draws are NaN."""
    if too_undefined(values):
        return None
    defined = values[np.isfinite(values)]
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
