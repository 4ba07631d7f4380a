"""Scores of predicted masks and distances of attacked images: pure functions on NumPy arrays, one definition each.

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
    """Pixel counts of many images, arrays of one shape."""

    tp: IntArray
    fp: IntArray
    fn: IntArray
    tn: IntArray


class ScoreFn(Protocol):
    """From pixel counts to a score: of one image, or one number for each of many."""

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
        shapes = f"{predicted.dtype} {predicted.shape} and {truth.dtype} {truth.shape}"
        raise ValueError(f"masks must be boolean and of one shape; found {shapes}")
    tp = int(np.count_nonzero(predicted & truth))
    marked, forged = int(np.count_nonzero(predicted)), int(np.count_nonzero(truth))
    return Counts(tp, marked - tp, forged - tp, truth.size - marked - forged + tp)


def _ratio(terms: Callable[[Any], tuple[Any, Any]]) -> ScoreFn:
    """Make a score of ``terms(counts) -> (numerator, denominator)``: NaN where the denominator is 0."""

    @wraps(terms)
    def score(counts: Any) -> Any:
        numerator, denominator = terms(counts)
        if isinstance(denominator, np.ndarray):
            return np.divide(
                numerator, denominator, out=np.full(denominator.shape, math.nan), where=denominator != 0
            )
        return numerator / denominator if denominator else math.nan

    return score


@_ratio
def f1(counts: Any) -> Any:
    """Compute 2 tp / (2 tp + fp + fn); NaN when truth and prediction are both empty."""
    return 2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn


@_ratio
def iou(counts: Any) -> Any:
    """Compute tp / (tp + fp + fn); NaN when truth and prediction are both empty."""
    return counts.tp, counts.tp + counts.fp + counts.fn


@_ratio
def fpr(counts: Any) -> Any:
    """Compute fp / (fp + tn), the figure for authentic images; NaN where every pixel is forged."""
    return counts.fp, counts.fp + counts.tn


@_ratio
def f1_inv(counts: Any) -> Any:
    """Compute the F1 of the inverted mask: a diagnostic of swapped labels, never a score."""
    return 2 * counts.fn, 2 * counts.fn + counts.tn + counts.tp


@_ratio
def mcc(counts: Any) -> Any:
    """Compute Matthews' correlation, signed; 0 where truth or prediction is all of one kind."""
    tp, fp, fn, tn = counts
    # two products of two: of all four, 64-bit integers overflow from 0.1 megapixels on
    denominator = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    numerator = tp * tn - fp * fn
    denominator = np.maximum(
        denominator, abs(numerator)
    )  # which it is but for rounding: no correlation is above 1
    denominator = denominator if isinstance(denominator, np.ndarray) else float(denominator)
    return numerator, denominator + (denominator == 0)  # the numerator is 0 there, too


class _Levels(NamedTuple):
    """Pixels at every distinct probability of one image, from the lowest up."""

    forged: IntArray
    authentic: IntArray


def auc(probability: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Compute the chance that a forged pixel ranks above an authentic one; ties count half (Mann-Whitney, mid-ranks).

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
    authentic_below = np.cumsum(levels.authentic) - levels.authentic
    twice_wins = int((levels.forged * (2 * authentic_below + levels.authentic)).sum())
    return twice_wins / (2 * forged * authentic)


def f1_best(probability: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """Find the highest F1 of all masks ``probability >= cut``, one cut at each distinct value; NaN when truth is empty.

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


TOP_SHARE = 0.01
"""Share of an image's pixels that ``top_mean`` averages."""


def top_mean(probability: npt.NDArray[Any], share: float = TOP_SHARE) -> float:
    """Average the highest ``share`` of an image's values, at least one: a score of the whole image.

    One pixel alone decides less than in a maximum, and a small forgery counts more than in a mean.
    """
    count = max(1, math.ceil(share * probability.size))
    highest = np.partition(probability, probability.size - count, axis=None)[-count:]
    return float(highest.mean(dtype=np.float64))


def eight_bit(probability: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Round probabilities in [0, 1] to the levels of a stored map, round(255 p): truncated, 0.501 would fall below one half.

    For ``auc`` and ``f1_best`` only. A mask is drawn from the floats: 0.5 is not above 0.5, its level 128 would be.
    """
    return np.floor(probability.astype(np.float64) * 255.0 + 0.5).astype(np.uint8)


def rp(f1_now: FloatArray, f1_original: FloatArray) -> float:
    """Compute the remaining performance in percent: 100 times mean F1 over mean F1 on the originals, uncapped.

    Both means are over the images where both are defined; NaN if there are none or the originals' mean is 0.
    """
    defined = ~(np.isnan(f1_now) | np.isnan(f1_original))
    total_now, total_original = math.fsum(f1_now[defined].tolist()), math.fsum(f1_original[defined].tolist())
    return 100.0 * total_now / total_original if total_original else math.nan


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
    """Average SSIM (Wang et al. 2004, Eq. 13) over all windows inside the image.

    Equals scikit-image's to the last digits in a third of its time, which was a multiple of what encoding takes.
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
    """Sum SSIM over the windows of a strip."""
    a, b = x.astype(np.float64), y.astype(np.float64)
    mean_a, mean_b, squares, products = (_windows(plane) for plane in (a, b, a * a + b * b, a * b))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    twice, spread = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    scores = (2 * twice + c1) * (2 * (products - twice) + c2)
    scores /= (spread + c1) * (squares - spread + c2)
    return float(scores.sum())


def _windows(planes: FloatArray) -> FloatArray:
    """Average with Gaussian weights around every pixel whose window lies inside the image."""
    margin = _WINDOW // 2
    means: FloatArray = cv2.GaussianBlur(planes, (_WINDOW, _WINDOW), 1.5)
    return means[margin:-margin, margin:-margin]
