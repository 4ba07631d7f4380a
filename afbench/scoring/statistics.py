"""Compute intervals of means, of RP and of differences, by bootstrap over images.

From 100 images with another value than 0 on, intervals are percentile intervals, below they are bootstrap-t intervals: F1 after an
attack is skewed, and percentile intervals of few skewed values, or of many zeros beside them, hold the truth too rarely.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from afbench.metrics import FloatArray, IntArray

from .bootstrap_t import bootstrap_t
from .resampling import DRAWS, Interval, interval, on_grid, ratio, resample

SMALL = 100
"""Images with another value than 0 below which intervals are bootstrap-t intervals."""
FEW = 30
"""Images below which a warning stands beside intervals."""


class ImageSums(NamedTuple):
    """Rows summed by image, in order of their names: ``(N, K + 1)``, the last column their number, and each image's source."""

    columns: FloatArray
    sources: list[str]


def mean_interval(
    values: npt.ArrayLike,
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    least: float = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of a mean over rows; rows of one source and sample are one image.

    NaN rows are left out. None with fewer than two images: one image says nothing of others.

    Args:
        values: one a row, between ``least`` and 1.
        sources: of each row.
        samples: of each row.
        least: the least possible value.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    return image_mean_interval(
        images_of_rows([values], sources, samples), least=least, draws=draws, seed=seed
    )


def image_mean_interval(
    images: ImageSums, *, least: float = 0.0, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """Return the interval of a mean over rows that are summed by image already, as ``mean_interval``."""
    return _ratio_interval(images, images.columns[:, -1], least, draws, seed, is_rp=False)


def rp_interval(
    f1: npt.ArrayLike,
    f1_original: npt.ArrayLike,
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    least: float = 0.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of RP in percent, both means over the same drawn images; otherwise as ``mean_interval``."""
    images = images_of_rows([f1, f1_original], sources, samples)
    return image_rp_interval(images, least=least, draws=draws, seed=seed)


def image_rp_interval(
    images: ImageSums, *, least: float = 0.0, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """Return the interval of RP over sums of F1 and of the original's F1 by image, as ``rp_interval``."""
    ends = _ratio_interval(images, images.columns[:, 1], least, draws, seed, is_rp=True)
    return None if ends is None else Interval(100.0 * ends.low, 100.0 * ends.high)


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
        return mean_interval(gap, sources, samples, least=-1.0, draws=draws, seed=seed)
    return rp_interval(gap, f1_original, sources, samples, least=-1.0, draws=draws, seed=seed)


def _ratio_interval(
    images: ImageSums, denominator: FloatArray, least: float, draws: int, seed: int, *, is_rp: bool
) -> Interval | None:
    if len(images.columns) < 2:
        return None
    numerator, rows = images.columns[:, 0], images.columns[:, -1]
    studentised = None
    if has_few(numerator):
        studentised = bootstrap_t(
            numerator, denominator, rows, images.sources, least=least, is_rp=is_rp, draws=draws, seed=seed
        )
        # of a difference that few images make, either interval alone leaves 0 out too often
        if least >= 0 or studentised is None:
            return studentised
    sums = resample(np.stack([numerator, denominator], axis=1), images.sources, draws=draws, seed=seed)
    total = np.stack(list(sums.values())).sum(axis=0)
    percentile = interval(ratio(total[:, 0], total[:, 1]))
    if studentised is None or percentile is None:
        return percentile
    return Interval(min(studentised.low, percentile.low), max(studentised.high, percentile.high))


def has_few(values: FloatArray) -> bool:
    """Return whether so few images have another value than 0, or so equal ones, that their interval is a bootstrap-t interval.

    Images of value 0, which an attack leaves where it succeeds, say how rare others are, and nothing of how large.
    """
    return int(np.count_nonzero(values)) < SMALL or bool(np.ptp(values) == 0)


def few_images_warning(images: int) -> str | None:
    """Warn of intervals of fewer than 30 images; None where there are more, or none at all."""
    if not 0 < images < FEW:
        return None
    return f"{images} image{'s' * (images != 1)}: intervals of fewer than {FEW} are rough; use more"


def few_images(per_image: pd.DataFrame) -> list[str]:
    """Write a line for each localizer of a score with so few forged images that its intervals are rough."""
    forged = per_image[per_image["tp"] + per_image["fn"] > 0]
    images = forged[["localizer", "source", "sample_id"]].drop_duplicates().groupby("localizer").size()
    warnings = ((localizer, few_images_warning(int(count))) for localizer, count in images.items())
    return [f"{localizer}: {warning}" for localizer, warning in warnings if warning]


def images_of_rows(
    columns: Sequence[npt.ArrayLike], sources: Sequence[str], samples: Sequence[str]
) -> ImageSums:
    """Sum rows of the same source and sample; rows with an undefined value are left out."""
    values = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(not len(column) == len(sources) == len(samples) for column in values):
        raise ValueError(f"{len(values[0])} rows have {len(sources)} sources and {len(samples)} samples")
    return sum_by_image(values, *number_images(sources, samples))


def number_images(sources: Sequence[str], samples: Sequence[str]) -> tuple[IntArray, list[str]]:
    """Number the image of each row, in order of source and sample, and return the source of each number."""
    source, sources_named = pd.factorize(np.asarray(sources, object), sort=True)
    sample, samples_named = pd.factorize(np.asarray(samples, object), sort=True)
    images, image = np.unique(source * len(samples_named) + sample, return_inverse=True)
    return image, sources_named[images // max(len(samples_named), 1)].tolist()


def sum_by_image(columns: Sequence[FloatArray], image: IntArray, image_sources: Sequence[str]) -> ImageSums:
    """Sum rows of the same image, whose numbers and sources ``number_images`` gave; rows with an undefined value are left out."""
    values = np.stack(columns, axis=1)
    is_defined = np.isfinite(values).all(axis=1)
    values = on_grid(values[is_defined])
    images, position = np.unique(image[is_defined], return_inverse=True)
    sums = [
        np.bincount(position, column, minlength=len(images)) for column in (*values.T, np.ones(len(position)))
    ]
    return ImageSums(np.stack(sums, axis=1), [image_sources[number] for number in images.tolist()])
