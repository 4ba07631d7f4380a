"""What a localization is worth and how visible a perturbation is: pure, numpy, one definition each."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

from afbench.core import ByteImage


class Counts(NamedTuple):
    """Pixels of one image: forged found, authentic called forged, forged missed, authentic left alone."""

    tp: int
    fp: int
    fn: int
    tn: int


def count_pixels(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> Counts:
    """Count the pixels of one image; both are boolean ``(H, W)``, True where forged."""
    tp = int(np.count_nonzero(predicted & truth))
    marked, forged = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    return Counts(tp, marked - tp, forged - tp, truth.size - marked - forged + tp)


def f1(counts: Counts) -> float:
    """2 tp / (2 tp + fp + fn); NaN when truth and prediction are both empty."""
    below = 2 * counts.tp + counts.fp + counts.fn
    return 2 * counts.tp / below if below else math.nan


def iou(counts: Counts) -> float:
    """tp / (tp + fp + fn); NaN when truth and prediction are both empty."""
    below = counts.tp + counts.fp + counts.fn
    return counts.tp / below if below else math.nan


class Distance(NamedTuple):
    """How far a stored 8-bit image lies from its 8-bit original; ``linf`` in levels, ``l2`` over [0, 1] values."""

    linf: int
    l2: float
    psnr: float
    ssim: float
    changed: float


def distance(attacked: ByteImage, original: ByteImage) -> Distance:
    """Measure the perturbation between two uint8 ``(H, W, 3)`` images.

    ``psnr`` is in dB against 255 (infinite for equal images); ``ssim`` follows Wang et al. 2004 (Gaussian
    window of sigma 1.5, population covariance, mean over channels; NaN where a side is below 11 pixels); ``changed``
    is the share of values that differ.
    """
    delta = attacked.astype(np.int16) - original.astype(np.int16)
    squares = int(np.square(delta.astype(np.int32)).sum(dtype=np.int64))
    mean_square = squares / delta.size
    return Distance(
        linf=int(np.abs(delta).max()),
        l2=math.sqrt(squares) / 255.0,
        psnr=10.0 * math.log10(255.0**2 / mean_square) if squares else math.inf,
        ssim=_ssim(attacked, original),
        changed=float(np.count_nonzero(delta)) / delta.size,
    )


def _ssim(attacked: ByteImage, original: ByteImage) -> float:
    if min(original.shape[:2]) < 11:
        return math.nan
    return float(
        structural_similarity(
            original,
            attacked,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
