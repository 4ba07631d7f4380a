"""Bootstrap-t intervals against their definition, and where the definition alone would give none."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tables import frame, row

from afbench.scoring.bootstrap_t import bootstrap_t
from afbench.scoring.resampling import resample
from afbench.scoring.score_tables import build_tables
from afbench.scoring.statistics import (
    SMALL,
    difference_interval,
    few_images_warning,
    mean_interval,
    rp_interval,
)


def drawn_images(count, source="a"):
    """How often each image is in each draw."""
    return resample(np.eye(count), [source] * count)[source]


def names(count):
    return ["a"] * count, [f"s{number:03d}" for number in range(count)]


def studentised_ends(value, error, values, errors):
    ratios = np.sort((values - value) / errors)
    low, high = ratios[math.floor(0.025 * (len(ratios) - 1))], ratios[math.ceil(0.975 * (len(ratios) - 1))]
    return value - high * error, value - low * error


def test_a_mean_is_studentised_by_the_standard_error_of_each_draw():
    f1 = np.random.default_rng(0).beta(1, 3, 40)
    times = drawn_images(40)
    values = times @ f1 / 40
    errors = np.sqrt(
        [np.average((f1 - mean) ** 2, weights=count) / 39 for mean, count in zip(values, times, strict=True)]
    )
    expected = studentised_ends(f1.mean(), f1.std(ddof=1) / math.sqrt(40), values, errors)
    assert mean_interval(f1, *names(40)) == pytest.approx(expected, rel=1e-9)


def test_remaining_performance_is_studentised_by_its_linearised_standard_error():
    rng = np.random.default_rng(1)
    original = rng.beta(5, 2, 60)
    f1 = original * rng.beta(1, 2, 60)
    times = drawn_images(60)
    values = times @ f1 / (times @ original)
    errors = [
        np.sqrt(60 / 59 * (count @ (f1 - value * original) ** 2)) / (count @ original)
        for value, count in zip(values, times, strict=True)
    ]
    value = f1.sum() / original.sum()
    error = np.sqrt(60 / 59 * ((f1 - value * original) ** 2).sum()) / original.sum()
    expected = studentised_ends(100 * value, 100 * error, 100 * values, 100 * np.array(errors))
    assert rp_interval(f1, original, *names(60)) == pytest.approx(expected, rel=1e-9)


def test_the_rule_changes_at_a_hundred_images():
    f1 = np.random.default_rng(2).beta(1, 4, SMALL)
    ends = np.quantile(drawn_images(SMALL) @ f1 / SMALL, [0.025, 0.975])
    assert mean_interval(f1, *names(SMALL)) == pytest.approx(tuple(ends), abs=1e-9)
    times = drawn_images(SMALL - 1)
    ends = np.quantile(times @ f1[1:] / (SMALL - 1), [0.025, 0.975])
    assert mean_interval(f1[1:], *names(SMALL - 1)).high > ends[1] + 1e-3


def test_one_defended_image_among_many_lost_ones_leaves_a_finite_interval_wider_than_percentiles():
    f1 = np.zeros(36)
    f1[7] = 0.4
    found = mean_interval(f1, *names(36))
    # a third of the draws lack the image, so percentiles end at 0.4 * 3 / 36
    assert found.low == pytest.approx(0, abs=1e-6)
    share, high = f1.mean(), found.high
    divergence = share * math.log(share / high) + (1 - share) * math.log((1 - share) / (1 - high))
    assert 36 * divergence == pytest.approx(math.log(40))
    assert found.high > 0.4 * 3 / 36


def test_a_trace_of_f1_on_one_image_is_bounded_as_if_there_were_none():
    f1 = np.zeros(36)
    f1[7] = 1e-4
    # (1 - mean) ** 36 = 0.025: a larger mean would have shown
    assert mean_interval(f1, *names(36)).high == pytest.approx(1 - 0.025 ** (1 / 36), abs=1e-4)
    found = rp_interval(f1, np.full(36, 0.8), *names(36))
    assert found.high == pytest.approx(100 * (1 - 0.025 ** (1 / 36)) / 0.8, abs=0.02)


def test_one_changed_image_among_many_leaves_an_interval_that_knows_the_others_did_not_change():
    original, f1 = np.full(60, 0.8), np.full(60, 0.8)
    f1[7] = 0.3
    found = difference_interval(f1, original, *names(60))
    # losses are between 0 and 1 an image: a larger mean than this would have shown on more images
    loss, most = 0.5 / 60, -found.low
    divergence = loss * math.log(loss / most) + (1 - loss) * math.log((1 - loss) / (1 - most))
    assert 60 * divergence == pytest.approx(math.log(80))
    rp = rp_interval(f1, original, *names(60))
    assert 85 < rp.low < 100 * f1.sum() / original.sum() < rp.high < 101


def test_two_images_say_nothing():
    found = mean_interval([0.3, 0.9], *names(2))
    assert found.low < 0.05 and found.high > 0.95


@pytest.mark.parametrize("count", [5, 36, SMALL + 20])
def test_zeros_on_all_images_leave_what_as_many_images_would_have_shown(count):
    # (1 - mean) ** count = 0.025: if more than that were found in truth, one image would have shown it
    most = 1 - 0.025 ** (1 / count)
    zeros, original = np.zeros(count), np.random.default_rng(3).uniform(0.5, 1, count)
    assert mean_interval(zeros, *names(count)) == pytest.approx((0, most), abs=1e-9)
    rp_most = min(100 * most / original.mean(), 100 / original.mean())
    assert rp_interval(zeros, original, *names(count)) == pytest.approx((0, rp_most), abs=1e-6)
    assert mean_interval(zeros + 1, *names(count)) == pytest.approx((1 - most, 1), abs=1e-9)
    table = frame(*(row("pgd-1", name, 0.0, 0.8) for name in names(count)[1]))
    figures = build_tables(table)["aggregates"]["loc"]
    for part in ("micro", "macro", "worst_case"):
        assert figures[part]["f1_ci"] == pytest.approx((0, most), abs=1e-9)
        assert figures[part]["rp_ci"] == pytest.approx((0, 100 * most / 0.8), abs=1e-6)


def test_images_that_keep_one_share_and_submissions_that_agree_have_no_doubt():
    for original in (np.random.default_rng(4).uniform(0.2, 1, 40), np.ones(40)):
        for factor in (1, 0.5):
            assert rp_interval(factor * original, original, *names(40)) == pytest.approx((100 * factor,) * 2)
        assert difference_interval(original, original, *names(40)) == (0, 0)


def test_two_images_of_many_that_differ_are_no_difference_of_submissions():
    """Whoever draws neither of them finds none."""
    gap = np.zeros(120)
    gap[[3, 77]] = 0.41, 0.37
    assert difference_interval(np.zeros(120), gap, *names(120)).holds_zero()


def test_many_images_of_which_few_are_not_zero_are_treated_as_few():
    f1 = np.zeros(400)
    f1[:90] = np.random.default_rng(7).beta(1, 4, 90)
    ones = np.ones(400)
    assert mean_interval(f1, *names(400)) == pytest.approx(bootstrap_t(f1, ones, ones, names(400)[0]))
    percentiles = np.quantile(drawn_images(400) @ f1 / 400, [0.025, 0.975])
    assert mean_interval(f1, *names(400)).high > percentiles[1]


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(2, 20), st.booleans())
def test_an_interval_holds_its_figure_and_stays_where_the_figure_can_be(seed, count, sparse):
    rng = np.random.default_rng(seed)
    original = rng.uniform(0.05, 1, count)
    f1 = original * rng.uniform(0, 1, count) * (rng.random(count) < (0.2 if sparse else 1))
    sources, samples = [str(number % 3) for number in range(count)], names(count)[1]
    found = mean_interval(f1, sources, samples, draws=100)
    assert 0 <= found.low <= f1.mean() + 1e-9 and f1.mean() - 1e-9 <= found.high <= 1
    found = rp_interval(f1, original, sources, samples, draws=100)
    value = 100 * f1.sum() / original.sum()
    assert 0 <= found.low <= value + 1e-7 and value - 1e-7 <= found.high < math.inf


def test_sources_of_the_same_weight_are_averaged_whatever_their_size():
    f1 = np.random.default_rng(5).beta(1, 2, 50)
    f1[40:] = [0, 1] * 5
    sources = ["a"] * 40 + ["b"] * 10
    ones = np.ones(50)
    found = bootstrap_t(f1, ones, ones, sources, by_source=True)
    assert found.low < (f1[:40].mean() + f1[40:].mean()) / 2 < found.high
    # the small source weighs as much as the large one, so the mean of sources is less certain
    weighted = bootstrap_t(f1, ones, ones, sources)
    assert found.high - found.low > 1.2 * (weighted.high - weighted.low)


def test_a_table_of_few_images_holds_bootstrap_t_intervals_and_of_many_percentiles():
    rng = np.random.default_rng(6)
    for count in (SMALL - 1, SMALL):
        f1 = np.round(rng.beta(1, 4, count), 3)
        table = frame(*(row("pgd-1", f"s{k:03d}", value, 0.8) for k, value in enumerate(f1)))
        figures = build_tables(table)["aggregates"]["loc"]
        assert figures["micro"]["f1_ci"] == pytest.approx(mean_interval(f1, *names(count)), abs=1e-9)
        assert figures["macro"]["f1_ci"] == pytest.approx(figures["micro"]["f1_ci"], abs=1e-9)


def test_fewer_than_thirty_images_get_a_warning():
    assert few_images_warning(12) == "12 images: intervals of fewer than 30 are rough; use more"
    assert few_images_warning(1).startswith("1 image: ")
    assert few_images_warning(0) is few_images_warning(30) is None


def test_a_bound_that_comes_as_near_to_one_as_a_number_can_is_one():
    # the upper limit of two such images lies a hair below 1, where halving reaches 1 itself
    f1 = [0.9072545244766193, 1.0]
    assert mean_interval(f1, *names(2)).high == pytest.approx(1.0)
