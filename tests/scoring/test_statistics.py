"""Intervals against closed forms, scipy and simulation; ties against hand-made cases."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.scoring.resampling import DRAWS, Interval, on_grid, resample
from afbench.scoring.statistics import difference_interval, mean_interval, rp_interval
from afbench.scoring.ties import tie_groups


def images(sizes, seed=0):
    """Sources, samples and two F1 of images that hang together, as many per source as asked."""
    rng = np.random.default_rng(seed)
    sources = [name for name, size in sizes.items() for _ in range(size)]
    samples = [f"s{number:05d}" for size in sizes.values() for number in range(size)]
    original = rng.beta(4, 1.5, len(sources))
    return sources, samples, original * rng.beta(2, 2, len(sources)), original


def close(found, expected, tolerance):
    assert found.low == pytest.approx(expected[0], abs=tolerance)
    assert found.high == pytest.approx(expected[1], abs=tolerance)


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    sources, samples, f1, _ = images({"a": 900, "b": 300})
    f1[900:] += 5  # what sets sources apart is no uncertainty: each is drawn as often as it is there
    error = math.sqrt(sum(len(part) * part.var() for part in (f1[:900], f1[900:]))) / 1200
    found = mean_interval(f1, sources, samples)
    close(found, (f1.mean() - 1.96 * error, f1.mean() + 1.96 * error), 0.15 * error)


def test_two_images_can_only_be_drawn_in_three_ways():
    assert mean_interval([0.0, 1.0], ["a", "a"], ["x", "y"]) == pytest.approx((0, 1), abs=0.01)
    drawn = resample(np.array([[0.0], [1.0]]), ["a", "a"])["a"][:, 0]
    shares = [np.mean(drawn == total) for total in (0, 1, 2)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.04) and sum(shares) == 1


def test_sources_of_one_value_each_leave_as_much_doubt_as_any_values_of_their_mean():
    found = mean_interval([0.25] * 8 + [0.75] * 24, ["a"] * 8 + ["b"] * 24, [f"s{n}" for n in range(32)])
    for end in found:
        divergence = 0.625 * math.log(0.625 / end) + 0.375 * math.log(0.375 / (1 - end))
        assert 32 * divergence == pytest.approx(math.log(40))
    assert found.low < 0.625 < found.high


def test_draws_take_as_many_images_of_each_source_as_it_has():
    drawn = resample(np.ones((70, 1)), ["a"] * 30 + ["b"] * 40, draws=50)
    assert list(drawn) == ["a", "b"] and (drawn["a"] == 30).all() and (drawn["b"] == 40).all()


def test_every_image_is_drawn_alike_often():
    drawn = resample(np.eye(7), ["a"] * 7, draws=20_000)["a"]
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(drawn.var(axis=0), 6 / 7, atol=0.04)
    assert np.corrcoef(drawn.T)[0, 1:] == pytest.approx(np.full(6, -1 / 6), abs=0.03)


def test_draws_are_their_own_across_sources_and_seeds():
    values = np.random.default_rng(1).random((40, 1))
    both = resample(np.concatenate([values, values]), ["a"] * 40 + ["b"] * 40)
    assert abs(np.corrcoef(both["a"][:, 0], both["b"][:, 0])[0, 1]) < 0.08
    other = resample(values, ["a"] * 40, seed=1)
    assert abs(np.corrcoef(both["a"][:, 0], other["a"][:, 0])[0, 1]) < 0.08


def test_adding_a_source_moves_no_draw_of_another():
    values = np.random.default_rng(1).random((60, 2))
    alone = resample(values[20:50], ["b"] * 30)["b"]
    among = resample(values, ["a"] * 20 + ["b"] * 30 + ["c"] * 10)["b"]
    np.testing.assert_allclose(alone, among, rtol=1e-12)


def test_intervals_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    sources, samples, f1, original = images({"a": 150})
    pairs = {
        "mean": (mean_interval(f1, sources, samples), (f1,), lambda f, axis: f.mean(axis)),
        "rp": (
            rp_interval(f1, original, sources, samples),
            (f1, original),
            lambda f, o, axis: 100 * f.mean(axis) / o.mean(axis),
        ),
    }
    for name, (found, data, statistic) in pairs.items():
        theirs = stats.bootstrap(
            data,
            statistic,
            paired=len(data) > 1,
            n_resamples=8000,
            method="percentile",
            random_state=np.random.default_rng(0),
        ).confidence_interval
        width = theirs.high - theirs.low
        assert found.low == pytest.approx(theirs.low, abs=0.05 * width), name
        assert found.high == pytest.approx(theirs.high, abs=0.05 * width), name


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = {"mean": 0, "rp": 0, "difference": 0}
    runs, size = 400, 60
    sources, samples = ["a"] * 40 + ["b"] * 20, [f"s{n}" for n in range(size)]
    for run in range(runs):
        original = rng.beta(4, 2, size)  # mean 2/3
        f1, other = original * rng.beta(2, 2, size), original * rng.beta(2, 3, size)  # times 1/2 and 2/5
        keep = {"draws": 400, "seed": run}
        found = mean_interval(f1, sources, samples, **keep)
        held["mean"] += found.low <= 1 / 3 <= found.high
        found = rp_interval(f1, original, sources, samples, **keep)
        held["rp"] += found.low <= 50 <= found.high
        found = difference_interval(f1, other, sources, samples, f1_original=original, **keep)
        held["difference"] += found.low <= 10 <= found.high
    for name, count in held.items():
        assert 0.90 <= count / runs <= 0.98, name


def test_pairing_makes_remaining_performance_more_certain():
    sources, samples, _, original = images({"a": 200})
    rng = np.random.default_rng(5)
    f1 = original * (0.7 + 0.1 * rng.random(200))
    paired = rp_interval(f1, original, sources, samples)
    unpaired = rp_interval(rng.permutation(f1), original, sources, samples)
    assert (unpaired.high - unpaired.low) > 3 * (paired.high - paired.low)


@settings(max_examples=20)
@given(st.integers(0, 99))
def test_the_order_of_rows_changes_no_bit(seed):
    sources, samples, f1, original = images({"b": 17, "a": 30, "c": 1}, seed)
    sources, samples = sources * 3, samples * 3
    f1, original = np.concatenate([f1, f1 / 3, f1**2]), np.tile(original, 3)
    order = np.random.default_rng(seed).permutation(len(sources))
    mixed = [np.asarray(part)[order] for part in (sources, samples, f1, original)]
    assert mean_interval(f1, sources, samples, draws=90) == mean_interval(mixed[2], *mixed[:2], draws=90)
    straight = rp_interval(f1, original, sources, samples, draws=90)
    assert straight == rp_interval(mixed[2], mixed[3], *mixed[:2], draws=90)


def test_repetition_gives_the_same_bytes_and_another_seed_does_not():
    values, sources = np.random.default_rng(2).random((333, 3)), ["a"] * 111 + ["b"] * 222
    first, again, other = (resample(values, sources, draws=70, seed=seed) for seed in (4, 4, 5))
    for name in ("a", "b"):
        assert first[name].tobytes() == again[name].tobytes() != other[name].tobytes()


def test_draws_are_these_on_every_machine():
    drawn = resample(np.arange(10.0)[:, None], ["casia"] * 10, draws=6, seed=0)["casia"][:, 0]
    assert drawn.tolist() == [53.0, 49.0, 62.0, 52.0, 58.0, 47.0]


@settings(max_examples=30)
@given(st.integers(0, 999), st.sampled_from([1e-6, 1.0, 24.0, 1e9]))
def test_sums_on_the_grid_are_exact_in_any_order(seed, scale):
    values = np.random.default_rng(seed).normal(0, scale, 2000)
    gridded = on_grid(values)
    assert np.abs(gridded - values).max() < 1e-11 * np.abs(values).max()
    assert gridded.sum() == gridded[::-1].sum() == gridded @ np.ones(2000) == math.fsum(gridded)


def test_rows_of_one_image_count_as_one_image():
    sources, samples, f1, _ = images({"a": 50})
    once = mean_interval(f1, sources, samples)
    tenfold = mean_interval(np.tile(f1, 10), sources * 10, samples * 10)
    close(tenfold, once, 1e-9)


def test_a_name_in_two_sources_is_two_images():
    found = mean_interval([0.0, 1.0, 0.0, 1.0], ["a", "a", "b", "b"], ["x", "y", "x", "y"])
    drawn = resample(np.array([[0.0], [1.0], [0.0], [1.0]]), ["a", "a", "b", "b"])
    assert set(drawn) == {"a", "b"} and found == pytest.approx((0, 1), abs=0.05)


def test_undefined_rows_are_left_out():
    sources, samples, f1, original = images({"a": 30})
    holes = f1.copy()
    holes[::3] = np.nan
    kept = ~np.isnan(holes)
    expected = mean_interval(f1[kept], np.array(sources)[kept], np.array(samples)[kept])
    assert mean_interval(holes, sources, samples) == expected
    assert rp_interval(f1, np.where(kept, original, np.nan), sources, samples) == rp_interval(
        holes, original, sources, samples
    )


def test_what_cannot_be_known_has_no_interval():
    assert mean_interval([], [], []) is None
    assert mean_interval([0.5], ["a"], ["x"]) is None
    assert mean_interval([0.5, np.nan], ["a", "a"], ["x", "y"]) is None
    assert mean_interval([0.5, 0.7], ["a", "a"], ["x", "x"]) is None  # two rows of one image
    assert rp_interval([0.1, 0.2], [0.0, 0.0], ["a", "a"], ["x", "y"]) is None
    assert rp_interval([0.1, 0.2], [0.0, 0.5], ["a", "a"], ["x", "y"]) is None  # a quarter of the draws
    assert mean_interval([0.5, 0.7], ["a", "b"], ["x", "x"]) == pytest.approx((0.6, 0.6))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="2 rows have 3 sources and 3 samples"):
        mean_interval([0.1, 0.2], ["a"] * 3, ["x", "y", "z"])
    with pytest.raises(ValueError, match="3 images have 2 sources"):
        resample(np.ones((3, 1)), ["a", "a"])


def test_a_submission_does_not_differ_from_itself_and_a_shift_is_certain():
    sources, samples, f1, original = images({"a": 40, "b": 20})
    assert difference_interval(f1, f1, sources, samples) == (0.0, 0.0)
    close(difference_interval(f1 + 0.1, f1, sources, samples), (0.1, 0.1), 1e-9)
    close(
        difference_interval(f1 + 0.1 * original, f1, sources, samples, f1_original=original), (10, 10), 1e-8
    )
    there = difference_interval(f1, original, sources, samples)
    back = difference_interval(original, f1, sources, samples)
    close(there, (-back.high, -back.low), 1e-9)


def test_the_difference_of_remaining_performances_is_that_of_their_draws():
    sources, samples, f1, original = images({"a": 120})
    other = original * 0.4
    drawn = resample(np.stack([f1, other, original], axis=1), sources)["a"]
    gaps = 100 * drawn[:, 0] / drawn[:, 2] - 100 * drawn[:, 1] / drawn[:, 2]
    found = difference_interval(f1, other, sources, samples, f1_original=original)
    close(found, np.quantile(gaps, [0.025, 0.975]), 1e-6)


def test_submissions_tie_with_the_leader_they_cannot_be_told_from():
    sources, samples, f1, original = images({"a": 100})
    noise = np.random.default_rng(3).normal(0, 0.05, 100)
    scores = {
        "worst": f1 * 0.5,
        "best": f1,
        "as good": f1 + noise - noise.mean() - 0.001,
        "clearly less": f1 - 0.05,
        "and its tie": f1 - 0.0501 + noise - noise.mean(),
    }
    for reference in (None, original):
        places = tie_groups(scores, sources, samples, f1_original=reference)
        names = ["best", "as good", "clearly less", "and its tie", "worst"]
        assert [place.name for place in places] == names
        assert [place.rank for place in places] == [1, 1, 3, 3, 5]
        assert [place.behind.holds_zero() for place in places] == [True, True, False, True, False]
        assert places[0].behind == (0.0, 0.0) and places[4].behind.high < 0
        assert places[1].behind.low < 0 < places[1].behind.high
    assert places[0].value == pytest.approx(100 * f1.mean() / original.mean())


def test_the_first_to_fall_clear_of_the_leader_leads_the_next_group():
    sources, samples, f1, _ = images({"a": 100})
    wild = np.random.default_rng(3).normal(0, 0.6, 100)
    scores = {"best": f1, "steady": f1 - 0.01, "wild": f1 - 0.02 + wild - wild.mean()}
    assert difference_interval(scores["wild"], f1, sources, samples).holds_zero()
    places = tie_groups(scores, sources, samples)
    assert [(place.rank, place.name) for place in places] == [(1, "best"), (2, "steady"), (2, "wild")]


def test_two_submissions_tie_about_where_the_interval_of_their_difference_holds_zero():
    sources, samples, f1, original = images({"a": 600, "b": 300})
    places = tie_groups({"x": f1, "y": original * 0.5}, sources, samples, f1_original=original)
    first, second = ({"x": f1, "y": original * 0.5}[place.name] for place in places)
    expected = difference_interval(second, first, sources, samples, f1_original=original)
    close(places[1].behind, expected, 0.05 * (expected.high - expected.low))


def test_every_pair_is_held_against_the_largest_studentised_error_of_any_pair():
    sources, samples, f1, original = images({"a": 50, "b": 20})
    rng = np.random.default_rng(8)
    scores = {
        name: np.clip(f1 + rng.normal(shift, 0.2, 70), 0, 1)
        for name, shift in zip("abc", (0, 0.05, 0.1), strict=True)
    }
    places = tie_groups(scores, sources, samples, f1_original=original)
    sums = resample(np.stack([*scores.values(), original], axis=1), sources)
    drawn = sums["a"] + sums["b"]
    rp = 100 * drawn[:, :3] / drawn[:, 3:]
    value = {name: 100 * scores[name].sum() / original.sum() for name in scores}
    pairs = {
        pair: rp[:, "abc".index(pair[0])] - rp[:, "abc".index(pair[1])] - value[pair[0]] + value[pair[1]]
        for pair in ("ab", "ac", "bc")
    }
    largest = np.max([np.abs(error) / error.std() for error in pairs.values()], axis=0)
    leader = places[0].name
    for place in places[1:]:
        pair = "".join(sorted(leader + place.name))
        half_width = np.quantile(largest, 0.95) * pairs[pair].std()
        assert place.behind.high - place.behind.low == pytest.approx(2 * half_width, rel=1e-9)


def test_more_submissions_need_clearer_differences():
    sources, samples, f1, _ = images({"a": 120})
    rng = np.random.default_rng(4)
    scores = {
        f"{number:02d}": np.clip(f1 - 0.01 * number + rng.normal(0, 0.1, 120), 0, 1) for number in range(12)
    }
    few, many = (tie_groups(dict(list(scores.items())[:count]), sources, samples) for count in (2, 12))
    width = {len(places): places[1].behind.high - places[1].behind.low for places in (few, many)}
    assert width[12] > 1.2 * width[2]


def test_equal_submissions_stand_in_order_of_their_names_whatever_order_they_came_in():
    sources, samples, f1, _ = images({"a": 10})
    for names in (["b", "a", "c"], ["c", "b", "a"]):
        places = tie_groups(dict.fromkeys(names, f1), sources, samples)
        assert [(place.rank, place.name) for place in places] == [(1, "a"), (1, "b"), (1, "c")]
    assert tie_groups({}, [], []) == []
    single = tie_groups({"only": [0.5]}, ["a"], ["x"])
    assert single == [(1, "only", 0.5, (0.0, 0.0))]


def test_one_image_tells_nobody_apart():
    places = tie_groups({"x": [0.9], "y": [0.1]}, ["a"], ["s"])
    assert [(place.rank, place.name, place.behind) for place in places] == [
        (1, "x", Interval(0.0, 0.0)),
        (1, "y", None),
    ]


def test_many_images_take_little_memory():
    values, sources = np.random.default_rng(0).random((20_000, 4)), ["a"] * 12_000 + ["b"] * 8_000
    tracemalloc.start()
    resample(values, sources, draws=DRAWS // 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20
