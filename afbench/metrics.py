"""What a localization is worth and how visible a perturbation is: pure, numpy, one definition each.

Every score is a function of integer counts of pixels. Forged is where the probability lies above the threshold, not at it.
"""

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple, Protocol, overload

import cv2
import numpy as np
import numpy.typing as npt

from afbench.core import ByteImage

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
_WINDOW = 11
"""Side of SSIM's window."""
_STRIP = 64
"""Rows of windows at once."""


class Counts(NamedTuple):
    """Pixels of one image: forged found, authentic called forged, forged missed, authentic left alone."""

    tp: int
    fp: int
    fn: int
    tn: int


class ManyCounts(NamedTuple):
    """The same of many images, arrays of one shape."""

    tp: IntArray
    fp: IntArray
    fn: IntArray
    tn: IntArray


class Score(Protocol):
    """A score of one image, or one number for each of many."""

    @overload
    def __call__(self, counts: Counts) -> float: ...
    @overload
    def __call__(self, counts: ManyCounts) -> FloatArray: ...


def count_pixels(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> Counts:
    """Count the pixels of one image; both are boolean ``(H, W)``, True where forged.

    Raises:
        ValueError: if they differ in shape or hold anything but booleans: 0 and 255 would count wrongly.
    """
    if predicted.shape != truth.shape or predicted.dtype != np.bool_ or truth.dtype != np.bool_:
        found = f"{predicted.dtype} {predicted.shape} and {truth.dtype} {truth.shape}"
        raise ValueError(f"masks must be boolean and of one shape; found {found}")
    tp = int(np.count_nonzero(predicted & truth))
    marked, forged = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    return Counts(tp, marked - tp, forged - tp, truth.size - marked - forged + tp)


def _ratio(terms: Callable[[Any], tuple[Any, Any]]) -> Score:
    """Make a score of ``terms(counts) -> (above, below)``: NaN where ``below`` is 0."""

    @wraps(terms)
    def score(counts: Any) -> Any:
        above, below = terms(counts)
        if isinstance(below, np.ndarray):
            return np.divide(above, below, out=np.full(below.shape, math.nan), where=below != 0)
        return above / below if below else math.nan

    return score


@_ratio
def f1(counts: Any) -> Any:
    """2 tp / (2 tp + fp + fn); NaN when truth and prediction are both empty."""
    return 2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn


@_ratio
def iou(counts: Any) -> Any:
    """tp / (tp + fp + fn); NaN when truth and prediction are both empty."""
    return counts.tp, counts.tp + counts.fp + counts.fn


@_ratio
def fpr(counts: Any) -> Any:
    """fp / (fp + tn), the figure for authentic images; NaN where every pixel is forged."""
    return counts.fp, counts.fp + counts.tn


@_ratio
def f1_inv(counts: Any) -> Any:
    """F1 of the inverted mask: a diagnostic of turned labels, never a score."""
    return 2 * counts.fn, 2 * counts.fn + counts.tn + counts.tp


@_ratio
def mcc(counts: Any) -> Any:
    """Matthews' correlation, signed; 0 where truth or prediction is all of one kind."""
    tp, fp, fn, tn = counts
    # two products of two: of all four, 64-bit integers overflow from 0.1 megapixels on
    below = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    above = tp * tn - fp * fn
    below = np.maximum(below, abs(above))  # which it is but for rounding: no correlation is above 1
    below = below if isinstance(below, np.ndarray) else float(below)
    return above, below + (below == 0)  # the numerator is 0 there, too


class _Levels(NamedTuple):
    """Pixels at every distinct probability of one image, from the lowest up."""

    forged: IntArray
    authentic: IntArray


def auc(probability: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Chance that a forged pixel ranks above an authentic one, ties counting half (Mann-Whitney with mid-ranks).

    Args:
        probability: ``(H, W)``, floats or 8-bit levels.
        truth: boolean ``(H, W)``, True where forged.
    Returns:
        A number in [0, 1], NaN when the truth has one class; exact but for its one division.
    Raises:
        ValueError: if a probability is NaN or the shapes differ.
    """
    levels = _count_levels(probability, truth)
    forged, authentic = int(levels.forged.sum()), int(levels.authentic.sum())
    if not forged or not authentic:
        return math.nan
    below = np.cumsum(levels.authentic) - levels.authentic
    twice_wins = int((levels.forged * (2 * below + levels.authentic)).sum())
    return twice_wins / (2 * forged * authentic)


def f1_best(probability: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """The highest F1 of all masks ``probability >= cut``, one cut at each distinct value; NaN when truth is empty.

    Takes and raises what ``auc`` does.
    """
    levels = _count_levels(probability, truth)
    forged = int(levels.forged.sum())
    if not forged:
        return math.nan
    tp = np.cumsum(levels.forged[::-1])
    fp = np.cumsum(levels.authentic[::-1])
    return float((2 * tp / (tp + fp + forged)).max())


def _count_levels(probability: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> _Levels:
    if probability.shape != truth.shape or truth.dtype != np.bool_:
        raise ValueError(
            f"truth must be boolean and shaped as the map; found {truth.dtype} {truth.shape} and {probability.shape}"
        )
    if probability.dtype == np.uint8:
        of_all = np.bincount(probability.ravel(), minlength=256)
        forged = np.bincount(probability[truth], minlength=256)
        return _Levels(forged, of_all - forged)
    ordered = np.sort(probability, axis=None)
    if ordered.size and math.isnan(ordered[-1]):
        raise ValueError("a probability map holds NaN")
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if ordered.size else np.arange(0)
    up_to = np.searchsorted(np.sort(probability[truth]), ordered[last], side="right")
    forged = np.diff(up_to, prepend=0)
    return _Levels(forged, np.diff(last, prepend=-1) - forged)


def eight_bit(probability: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Probabilities in [0, 1] as the levels of a stored map, round(255 p): cut off, 0.501 would fall below one half.

    For ``auc`` and ``f1_best`` only. A mask is drawn from the floats: 0.5 is not above 0.5, its level 128 would be.
    """
    return np.floor(probability.astype(np.float64) * 255.0 + 0.5).astype(np.uint8)


def rp(f1_now: FloatArray, f1_original: FloatArray) -> float:
    """Remaining performance in percent: 100 times mean F1 over mean F1 on the original forged images, uncapped.

    Both means are over the images where both are defined; NaN if there are none or the originals' mean is 0.
    """
    both = ~(np.isnan(f1_now) | np.isnan(f1_original))
    above, below = math.fsum(f1_now[both].tolist()), math.fsum(f1_original[both].tolist())
    return 100.0 * above / below if below else math.nan


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
    """Wang et al. 2004, Eq. 13, over all windows inside the image.

    scikit-image's, to the last digits, in a third of its time, which was a multiple of what encoding takes.
    """
    height, width = original.shape[:2]
    if min(height, width) < _WINDOW:
        return math.nan
    margin = _WINDOW - 1
    # in strips: what a whole photograph needs at once is 300 bytes a pixel
    strips = [slice(top, top + _STRIP + margin) for top in range(0, height - margin, _STRIP)]
    total = math.fsum(_ssim_sum(original[rows], attacked[rows]) for rows in strips)
    return float(total / ((height - margin) * (width - margin) * original.shape[2]))


def _ssim_sum(x: ByteImage, y: ByteImage) -> float:
    """Over the windows of a strip."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b, squares, products = (_windows(one) for one in (a, b, a * a + b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    both, apart = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    scores = (2 * both + c1) * (2 * (products - both) + c2)
    scores /= (apart + c1) * (squares - apart + c2)
    return float(scores.sum())


def _windows(planes: FloatArray) -> FloatArray:
    """Gaussian means around every pixel whose window lies inside."""
    margin = _WINDOW // 2
    means: FloatArray = cv2.GaussianBlur(planes, (_WINDOW, _WINDOW), 1.5)
    return means[margin:-margin, margin:-margin]
