"""Metrics against golden numbers, scikit-learn, scikit-image and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio

from afbench.metrics import Counts, count_pixels, distance, f1, iou

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "golden_metrics.npz"))


@pytest.mark.parametrize("case", range(len(GOLDEN["exp_name"])), ids=GOLDEN["exp_name"].tolist())
def test_golden_cases_come_out_exactly(case):
    counts = count_pixels(GOLDEN[f"prob_{case:02d}"] > 0.5, GOLDEN[f"gt_{case:02d}"] == 1)
    assert counts == tuple(int(GOLDEN[f"exp_{name}"][case]) for name in Counts._fields)
    assert f1(counts) == pytest.approx(GOLDEN["exp_f1"][case], rel=1e-15, nan_ok=True)
    assert iou(counts) == pytest.approx(GOLDEN["exp_iou"][case], rel=1e-15, nan_ok=True)


def masks(seed, share_predicted, share_true, shape=(13, 17)):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share_predicted, rng.random(shape) < share_true


shares = st.sampled_from([0.0, 0.05, 0.5, 0.97, 1.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), shares, shares)
def test_scores_equal_those_of_scikit_learn(seed, share_predicted, share_true):
    sklearn = pytest.importorskip("sklearn.metrics")
    predicted, truth = masks(seed, share_predicted, share_true)
    counts = count_pixels(predicted, truth)
    tn, fp, fn, tp = sklearn.confusion_matrix(truth.ravel(), predicted.ravel(), labels=[False, True]).ravel()
    assert counts == (tp, fp, fn, tn)
    expected = sklearn.f1_score(truth.ravel(), predicted.ravel(), zero_division=math.nan)
    assert f1(counts) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    if predicted.any() or truth.any():
        expected = sklearn.jaccard_score(truth.ravel(), predicted.ravel())
        assert iou(counts) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), shares, shares)
def test_counts_add_up_and_f1_follows_from_iou(seed, share_predicted, share_true):
    counts = count_pixels(*masks(seed, share_predicted, share_true))
    assert sum(counts) == 13 * 17 and min(counts) >= 0
    if not math.isnan(iou(counts)):
        assert f1(counts) == pytest.approx(2 * iou(counts) / (1 + iou(counts)))


def test_two_empty_masks_have_no_score_and_one_empty_mask_scores_zero():
    nothing, something = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert math.isnan(f1(count_pixels(nothing, nothing))) and math.isnan(iou(count_pixels(nothing, nothing)))
    assert f1(count_pixels(something, nothing)) == f1(count_pixels(nothing, something)) == 0
    assert f1(count_pixels(something, something)) == iou(count_pixels(something, something)) == 1


def test_marking_everything_scores_by_the_share_of_forged_pixels():
    truth = np.zeros((10, 10), bool)
    truth[:2] = True
    assert f1(count_pixels(np.ones_like(truth), truth)) == pytest.approx(2 * 0.2 / 1.2)


def test_psnr_equals_that_of_scikit_image(picture):
    original, other = picture(20, 30, seed=1), picture(20, 30, seed=2)
    expected = peak_signal_noise_ratio(original, other, data_range=255)
    assert distance(other, original).psnr == pytest.approx(expected, rel=1e-12)


def _wang_ssim(x, y):
    """Wang et al. 2004, Eq. 13, over all windows that lie inside the image."""

    def mean(plane):
        return gaussian_filter(plane, 1.5, truncate=3.5)

    scores = []
    for channel in range(3):
        a, b = x[..., channel].astype(float), y[..., channel].astype(float)
        va, vb, cov = mean(a * a) - mean(a) ** 2, mean(b * b) - mean(b) ** 2, mean(a * b) - mean(a) * mean(b)
        one, two = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        ratio = (2 * mean(a) * mean(b) + one) * (2 * cov + two)
        ratio /= (mean(a) ** 2 + mean(b) ** 2 + one) * (va + vb + two)
        scores.append(ratio[5:-5, 5:-5].mean())
    return np.mean(scores)


def test_ssim_equals_the_formula_of_its_paper(picture):
    original = picture(24, 33, seed=3)
    other = np.clip(original.astype(int) + np.sign(picture(24, 33, seed=4).astype(int) - 128) * 30, 0, 255)
    other = other.astype(np.uint8)
    assert distance(other, original).ssim == pytest.approx(_wang_ssim(original, other), abs=1e-6)


def test_ssim_is_undefined_below_its_window(picture):
    assert math.isnan(distance(picture(10, 40), picture(10, 40)).ssim)
    assert distance(picture(11, 11), picture(11, 11)).ssim == 1


@pytest.mark.parametrize(("level", "moved"), [(0, 255), (255, 0), (10, 9), (9, 10)])
def test_one_changed_value_is_measured_without_wrapping_round(level, moved):
    original = np.full((12, 12, 3), level, np.uint8)
    attacked = original.copy()
    attacked[3, 4, 1] = moved
    found = distance(attacked, original)
    assert found.linf == abs(moved - level) and isinstance(found.linf, int)
    assert found.l2 == pytest.approx(abs(moved - level) / 255)
    assert found.changed == pytest.approx(1 / 432)
    assert found.psnr == pytest.approx(10 * math.log10(255**2 * 432 / (moved - level) ** 2))


def test_equal_images_are_infinitely_close(picture):
    assert distance(picture(), picture()) == (0, 0.0, math.inf, pytest.approx(1), 0.0)


def test_large_images_do_not_overflow():
    black, white = np.zeros((600, 600, 3), np.uint8), np.full((600, 600, 3), 255, np.uint8)
    found = distance(white, black)
    assert found.psnr == 0 and found.l2 == pytest.approx(math.sqrt(600 * 600 * 3))
