"""Compute bootstrap-t intervals of ratios of means, for few and skewed values.

Each draw's error is divided by the standard error of that draw, so that a draw which happened to miss the rare large values does
not pass for a certain one (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.5).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from afbench.metrics import FloatArray

from .resampling import DRAWS, LEVEL, Interval, ratio, resample, too_undefined

_NO_ERROR = 1e-9
"""Standard error, as a share of the sample's or of the largest value, below which there is none: what is left is rounding."""


class _Ratio(NamedTuple):
    """A ratio over some sources: its value and limits, its variance in the sample, and error and variance in every draw."""

    value: float
    least: float
    greatest: float
    variance: float
    bound: Interval
    errors: FloatArray
    variances: FloatArray


def bootstrap_t(
    numerator: FloatArray,
    denominator: FloatArray,
    rows: FloatArray,
    sources: Sequence[str],
    *,
    least: float = 0.0,
    is_rp: bool = False,
    by_source: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the 95 % interval of a ratio of sums over images or, with ``by_source``, of the mean of the sources' ratios.

    An end never lies where the Chernoff-Hoeffding inequality excludes the truth (Hoeffding 1963, theorem 1). Without that, an end
    would lie anywhere if many draws hold one value only: they have no standard error, so their studentised error is infinite. Where
    all values are equal, the ends are those of the inequality: 0 on all of 36 images leaves 0 to 0.097. The interval has no width only
    where two submissions differ by the same on all images, where RP is the same on all images and not 0 (100 without a defence and an
    attack, by definition), or where no source has two images to draw from.

    Args:
        numerator: sum of each image's rows ``(N,)``; a row is at least ``least`` and at most 1.
        denominator: number of each image's rows, or the sum of what they are divided by, in [0, 1] a row.
        rows: number of each image's rows.
        sources: of each image; images are drawn within their source.
        least: the least possible value of a row of the numerator, below 0 for a difference of two submissions.
        is_rp: the denominator was measured on the same images, and is not the number of rows.
        by_source: give each source the same weight, instead of each row.
        draws: of the bootstrap.
        seed: of the bootstrap.
    Returns:
        None where too many draws have a denominator of 0.
    """
    source = np.asarray(sources, dtype=object)
    names = sorted(set(sources))
    ratios = []
    for group in [[name] for name in names] if by_source else [names]:
        is_in = np.isin(source, group)
        if not denominator[is_in].sum() > 0:
            return None
        columns = numerator[is_in], denominator[is_in], rows[is_in]
        ratios.append(_ratio(*columns, source[is_in].tolist(), least, is_rp, draws, seed))
    # sources are drawn apart, so the variances of their ratios add up
    count = len(ratios)
    value = sum(part.value for part in ratios) / count
    error = math.sqrt(sum(part.variance for part in ratios)) / count
    errors = np.sum([part.errors for part in ratios], axis=0) / count
    spreads = np.sqrt(np.sum([part.variances for part in ratios], axis=0)) / count
    if too_undefined(errors):
        return None
    limits = [sum(part.least for part in ratios) / count, sum(part.greatest for part in ratios) / count]
    bounds = [sum(ends) / count for ends in zip(*(part.bound for part in ratios), strict=True)]
    within = Interval(float(max(bounds[0], limits[0])), float(min(bounds[1], limits[1])))
    if error <= _NO_ERROR * max(map(abs, limits)):
        return within
    defined = np.isfinite(errors)
    low, high = _quantiles(_studentised(errors[defined], spreads[defined], error))
    # draws that differ from the sample by rounding alone can all lie on one side of it
    if high == -math.inf or low == math.inf:
        return within
    return Interval(
        float(max(value - high * error, within.low)), float(min(value - low * error, within.high))
    )


def _ratio(
    numerator: FloatArray,
    denominator: FloatArray,
    rows: FloatArray,
    sources: Sequence[str],
    least: float,
    is_rp: bool,
    draws: int,
    seed: int,
) -> _Ratio:
    total = float(denominator.sum())
    value = float(numerator.sum()) / total
    # centred before it is squared: equal values then have no variance left by rounding
    residual = numerator - value * denominator
    # a power of two, which rounds nothing: sums of draws are exact on a grid, which tiny residuals would fall through
    scale = math.ldexp(1.0, math.frexp(float(np.abs(residual).max()))[1])
    values = residual if is_rp else numerator
    residual = residual / scale
    columns = np.stack([residual, denominator, residual**2, residual * denominator, denominator**2], axis=1)
    sizes = {str(name): int(size) for name, size in zip(*np.unique(sources, return_counts=True), strict=True)}
    is_source = {name: np.asarray(sources, dtype=object) == name for name in sizes}
    sample = {name: columns[is_source[name]].sum(axis=0)[None] for name in sizes}
    errors, variances = _errors_and_variances(resample(columns, sources, draws=draws, seed=seed), sizes)
    # a source of one image is always drawn as it is
    is_varied = np.array([sizes[name] > 1 for name in sources])
    # a mean's denominator is known; RP's varies as well, between 0 and 1 a row
    tilt = value if is_rp else 0.0
    variance = scale**2 * float(_errors_and_variances(sample, sizes)[1][0])
    is_even = math.sqrt(variance) <= _NO_ERROR * float(rows.sum()) / total
    return _Ratio(
        value,
        least * float(rows.sum()) / total if is_varied.any() else value,
        float(rows.sum()) / total if is_varied.any() else value,
        variance,
        Interval(value, value)
        if is_even and (least < 0 or tilt != 0)
        else _bound(value, tilt, least, total, rows[is_varied], values[is_varied]),
        scale * errors,
        scale**2 * variances,
    )


def _errors_and_variances(
    sums: Mapping[str, FloatArray], sizes: Mapping[str, int]
) -> tuple[FloatArray, FloatArray]:
    """Return how far each draw's ratio is from the sample's, and its linearised variance; NaN without a denominator."""
    residual, denominator, *_ = np.sum(list(sums.values()), axis=0).T
    errors = ratio(residual, denominator)
    variances = np.zeros(len(errors))
    for name, size in sizes.items():
        # a source of one image has no variance of its own
        if size > 1:
            first, second, *squares = sums[name].T
            mean = (first - errors * second) / size
            squared = squares[0] - 2 * errors * squares[1] + errors**2 * squares[2]
            variances += np.maximum(squared - size * mean**2, 0.0) * size / (size - 1)
    return errors, ratio(variances, denominator**2)


def _bound(
    value: float, tilt: float, least: float, total: float, rows: FloatArray, values: FloatArray
) -> Interval:
    """Return where the truth lies with 95 %, whatever the distribution of rows in [``least``, 1].

    Args:
        value: the ratio.
        tilt: what a row is centred by, times its denominator: the ratio, or 0 for a mean.
        least: the least possible value of a row.
        total: sum of the denominators.
        rows: number of rows of each image that is drawn.
        values: sum of each image's rows, centred.
    """
    if not len(rows):
        return Interval(value, value)
    lowest, highest = least - max(tilt, 0.0), 1.0 - min(tilt, 0.0)
    centre = value if tilt == 0.0 else 0.0
    row_count = float(rows.sum())
    # giving every image the weight of the heaviest one keeps the inequality true
    count = row_count / float(rows.max())
    share = (centre - lowest) / (highest - lowest)
    ends = _chernoff(min(max(share, 0.0), 1.0), count, 1 - LEVEL)
    low, high = (lowest + (highest - lowest) * end - centre for end in ends)
    if lowest < 0 < highest:
        # rows that mostly are 0 have a mean near the middle of their range, of which the inequality knows little; gains and
        # losses by themselves have one near the end, of which it knows much
        gain = float(np.maximum(values, 0.0).sum()) / row_count
        loss = float(np.maximum(-values, 0.0).sum()) / row_count
        gains, losses = (
            [size * end - part for end in _chernoff(min(part / size, 1.0), count, (1 - LEVEL) / 2)]
            for part, size in ((gain, highest), (loss, -lowest))
        )
        low, high = max(low, gains[0] - losses[1]), min(high, gains[1] - losses[0])
    return Interval(value + low * row_count / total, value + high * row_count / total)


def _chernoff(share: float, count: float, chance: float) -> tuple[float, float]:
    """Return the means outside of which ``count`` values in [0, 1] average ``share`` with at most this chance, half on each side."""
    limit = math.log(2 / chance) / count

    rest = 1 - share

    def divergence(mean: float) -> float:
        # the middle of the last halvings may round to the edge itself
        if mean in (0.0, 1.0):
            return math.inf
        part = share * math.log(share / mean) if share else 0.0
        return part + (rest * math.log(rest / (1 - mean)) if rest else 0.0)

    def end(edge: float) -> float:
        inner, outer = share, edge
        for _ in range(50):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if divergence(middle) <= limit else (inner, middle)
        return outer

    return end(0.0) if share > 0 else 0.0, end(1.0) if share < 1 else 1.0


def _studentised(errors: FloatArray, spreads: FloatArray, error: float) -> FloatArray:
    """Divide the errors by their standard errors; infinite where a draw is off, but has no standard error."""
    has_spread = spreads > _NO_ERROR * error
    without = np.where(np.abs(errors) > _NO_ERROR * error, np.copysign(math.inf, errors), 0.0)
    return np.where(has_spread, errors / np.where(has_spread, spreads, 1.0), without)


def _quantiles(values: FloatArray) -> tuple[float, float]:
    # values may be infinite, between which nothing can be interpolated
    last = len(values) - 1
    low, high = math.floor(last * (1 - LEVEL) / 2), math.ceil(last * (1 + LEVEL) / 2)
    ordered = np.partition(values, [low, high])
    return float(ordered[low]), float(ordered[high])
