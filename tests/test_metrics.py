"""Metrics against golden numbers, scikit-learn, scikit-image and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from afbench.metrics import (
    Counts,
    ManyCounts,
    auc,
    count_pixels,
    distance,
    eight_bit,
    f1,
    f1_best,
    f1_inv,
    fpr,
    iou,
    mcc,
    rp,
)

GOLDEN = dict(np.load(Path(__file__).parent / "data" / "golden_metrics.npz"))
CASES = range(len(GOLDEN["exp_name"]))
OF_COUNTS = {"f1": f1, "iou": iou, "mcc": mcc, "fpr": fpr, "f1_inv": f1_inv}
OF_MAPS = {"auc": auc, "f1_best": f1_best}
golden_cases = pytest.mark.parametrize("case", CASES, ids=GOLDEN["exp_name"].tolist())


def golden(case):
    return GOLDEN[f"prob_{case:02d}"], GOLDEN[f"gt_{case:02d}"] == 1


@golden_cases
def test_golden_cases_come_out_exactly(case):
    probability, truth = golden(case)
    counts = count_pixels(probability > 0.5, truth)
    assert counts == tuple(int(GOLDEN[f"exp_{name}"][case]) for name in Counts._fields)
    for name, score in OF_COUNTS.items():
        expected = float(GOLDEN[f"exp_{name}"][case])
        assert score(counts) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True), name
        assert type(score(counts)) is float, name


@golden_cases
def test_golden_maps_come_out_exactly(case):
    for name, score in OF_MAPS.items():
        expected = float(GOLDEN[f"exp_{name}"][case])
        assert score(*golden(case)) == pytest.approx(expected, abs=1e-9, nan_ok=True), name


def test_there_are_thirty_golden_cases_and_their_averages_hold():
    assert len(CASES) == 30
    forged = [f1(count_pixels(p > 0.5, t)) for p, t in map(golden, CASES) if t.any()]
    assert len(forged) == GOLDEN["agg_n_forged"]
    assert np.mean(forged) == pytest.approx(float(GOLDEN["agg_mean_f1_forged_only"]), abs=1e-12)
    pooled = Counts(*map(sum, zip(*(count_pixels(p > 0.5, t) for p, t in map(golden, CASES)), strict=True)))
    assert f1(pooled) == pytest.approx(float(GOLDEN["agg_pooled_f1"]), abs=1e-12)
    areas = [auc(*golden(case)) for case in CASES]
    assert np.isfinite(areas).sum() == GOLDEN["agg_n_auc_defined"]
    assert np.nanmean(areas) == pytest.approx(float(GOLDEN["agg_mean_auc_defined"]), abs=1e-12)


def test_many_images_score_as_each_of_them():
    each = [count_pixels(p > 0.5, t) for p, t in map(golden, CASES)]
    many = ManyCounts(*(np.array(column) for column in zip(*each, strict=True)))
    for name, score in OF_COUNTS.items():
        np.testing.assert_array_equal(score(many), [score(one) for one in each], err_msg=name)


def masks(seed, share_predicted, share_true, shape=(13, 17)):
    rng = np.random.default_rng(seed)
    return rng.random(shape) < share_predicted, rng.random(shape) < share_true


shares = st.sampled_from([0.0, 0.05, 0.5, 0.97, 1.0])


@settings(max_examples=40)
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
    expected = sklearn.matthews_corrcoef(truth.ravel(), predicted.ravel())
    assert mcc(counts) == pytest.approx(expected, rel=1e-12, abs=1e-15)
    expected = sklearn.f1_score(truth.ravel(), ~predicted.ravel(), zero_division=math.nan)
    assert f1_inv(counts) == pytest.approx(expected, rel=1e-12, nan_ok=True)
    if not truth.all():
        recalled = sklearn.recall_score(~truth.ravel(), ~predicted.ravel(), zero_division=math.nan)
        assert fpr(counts) == pytest.approx(1 - recalled, abs=1e-12)


@settings(max_examples=60)
@given(st.integers(0, 99), shares, st.sampled_from([1, 2, 4, 255, 10**6]))
def test_areas_and_best_cuts_equal_those_of_scikit_learn(seed, share_true, levels):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    probability = (rng.integers(0, levels + 1, (13, 17)) / levels).astype(np.float32)  # few levels, many ties
    truth = rng.random((13, 17)) < share_true
    if not truth.any():
        assert math.isnan(auc(probability, truth)) and math.isnan(f1_best(probability, truth))
        return
    flat = truth.ravel(), probability.ravel()
    if truth.all():
        assert math.isnan(auc(probability, truth))
    else:
        assert auc(probability, truth) == pytest.approx(sklearn.roc_auc_score(*flat), abs=1e-9)
    precision, recall, _ = sklearn.precision_recall_curve(*flat)
    precision, recall = precision[:-1], recall[:-1]  # the last point is no cut
    with np.errstate(invalid="ignore"):
        expected = np.nanmax(2 * precision * recall / (precision + recall))
    assert f1_best(probability, truth) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 99), st.sampled_from([0.05, 0.5, 0.97]))
def test_levels_of_a_map_score_as_the_same_numbers_in_floats(seed, share_true):
    rng = np.random.default_rng(seed)
    levels = rng.integers(100, 140, (13, 17), dtype=np.uint8)
    truth = rng.random((13, 17)) < share_true
    for score in OF_MAPS.values():
        assert score(levels, truth) == score(levels / 255, truth)


@settings(max_examples=30)
@given(st.integers(0, 99))
def test_turning_a_map_or_its_truth_turns_the_area(seed):
    rng = np.random.default_rng(seed)
    probability, truth = rng.integers(0, 9, (8, 8)) / 8, rng.random((8, 8)) < 0.4
    truth[0, :2] = True, False
    assert auc(1 - probability, truth) == pytest.approx(1 - auc(probability, truth), abs=1e-15)
    assert auc(probability, ~truth) == pytest.approx(1 - auc(probability, truth), abs=1e-15)


def test_a_cut_marks_what_lies_at_it_and_a_threshold_does_not():
    half, truth = np.full((4, 4), 0.5, np.float32), np.eye(4, dtype=bool)
    assert f1(count_pixels(half > 0.5, truth)) == 0
    assert f1_best(half, truth) == pytest.approx(2 * 4 / (16 + 4)) and auc(half, truth) == 0.5


def test_maps_are_rounded_to_eight_bits_and_never_cut_off():
    case = GOLDEN["exp_name"].tolist().index("u8_truncation_gap")
    probability, truth = golden(case)
    assert f1(count_pixels(eight_bit(probability) > 127, truth)) == GOLDEN["exp_f1"][case] == 1
    assert GOLDEN["exp_f1_u8trunc"][case] == 0
    exact = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(eight_bit(exact / np.float32(255)), exact)
    assert eight_bit(np.array([0.0, 0.5 / 255, 0.501, 1.0])).tolist() == [0, 1, 128, 255]


def test_correlation_does_not_overflow_on_large_images():
    counts = Counts(16_000_000, 4_000_000, 4_000_000, 40_000_000)
    product = math.sqrt(20_000_000 * 44_000_000) ** 2
    expected = (16_000_000 * 40_000_000 - 4_000_000**2) / product
    assert mcc(counts) == pytest.approx(expected, rel=1e-12)
    assert mcc(ManyCounts(*(np.array([n]) for n in counts)))[0] == mcc(counts)


def test_no_correlation_is_above_1():
    wrong, right = np.divmod(np.arange(10_000), 100)
    none = np.zeros_like(wrong)
    opposite, same = mcc(ManyCounts(none, wrong, right, none)), mcc(ManyCounts(wrong, none, none, right))
    assert opposite.min() == -1 and opposite.max() == 0 and same.min() == 0 and same.max() == 1
    assert mcc(Counts(0, 1, 3, 0)) == -1  # sqrt(3) squared is more than 3


def test_masks_that_would_count_wrongly_are_refused():
    mask = np.zeros((4, 5), bool)
    for wrong in (mask[:1], mask.T, mask.astype(np.uint8) * 255):
        with pytest.raises(ValueError, match="boolean and of one shape"):
            count_pixels(wrong, mask)
    for score in OF_MAPS.values():
        with pytest.raises(ValueError, match="shaped as the map"):
            score(np.zeros((5, 4)), mask)
        with pytest.raises(ValueError, match="NaN"):
            score(np.full((4, 5), np.nan), mask)


def test_remaining_performance_takes_both_means_over_the_same_images():
    now, original = np.array([0.2, np.nan, 0.9, 0.4]), np.array([0.8, 0.5, np.nan, 0.4])
    assert rp(now, original) == pytest.approx(100 * 0.6 / 1.2)
    assert rp(original, original) == 100 and rp(np.array([0.9]), np.array([0.3])) == pytest.approx(300)
    assert math.isnan(rp(now, np.zeros(4))) and math.isnan(rp(now[:0], now[:0]))


@settings(max_examples=30)
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


@pytest.mark.parametrize(
    "changed",
    [
        lambda x, other: np.clip(x.astype(int) + other % 7 - 3, 0, 255),  # as an attack
        lambda x, other: other,
        lambda x, other: 255 - x,
        lambda x, other: np.full_like(x, 255),
    ],
)
def test_ssim_equals_that_of_scikit_image(picture, changed):
    smooth = gaussian_filter(picture(90, 70, seed=5), (4, 4, 0))
    for original in (picture(60, 45, seed=6), smooth, np.full_like(smooth, 250)):
        other = picture(*original.shape[:2], seed=7)
        attacked = changed(original, other).astype(np.uint8)
        expected = structural_similarity(
            original,
            attacked,
            data_range=255,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert distance(attacked, original).ssim == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("height", [11, 73, 74, 75, 84, 139])
def test_ssim_in_strips_counts_every_window_once(picture, height):
    original, other = picture(height, 12, seed=1), picture(height, 12, seed=2)
    assert distance(other, original).ssim == pytest.approx(_wang_ssim(original, other), abs=1e-12)


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
