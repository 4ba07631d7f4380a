"""Simulate what intervals and tie groups promise: how often they hold the truth, and how often they separate equals."""

import numpy as np
import pytest

from afbench.scoring.resampling import interval, resample
from afbench.scoring.statistics import difference_interval, mean_interval, rp_interval
from afbench.scoring.ties import tie_groups

pytestmark = pytest.mark.slow
DRAWS = 1000


def attacked_f1(rng, count, lost):
    """F1 after an attack: lost on this share of the images, skewed on the others, of which the mean is 1/6."""
    return (rng.random(count) >= lost) * rng.beta(0.5, 2.5, count)


def names(count):
    return ["a"] * count, [f"s{number:03d}" for number in range(count)]


def coverage(count, lost, runs):
    """Shares of runs in which the percentile interval and afbench's hold the truth."""
    rng = np.random.default_rng(count)
    truth, shares = (1 - lost) / 6, np.zeros(2)
    for run in range(runs):
        f1 = attacked_f1(rng, count, lost)
        percentile = interval(resample(f1[:, None], ["a"] * count, draws=DRAWS, seed=run)["a"][:, 0] / count)
        found = mean_interval(f1, *names(count), draws=DRAWS, seed=run)
        shares += [ends.low <= truth <= ends.high for ends in (percentile, found)]
    return shares / runs


def separated(submissions, runs, images=120):
    """Shares of boards of equal submissions on which pairwise intervals, and afbench, separate some."""
    rng = np.random.default_rng(submissions)
    shares = np.zeros(2)
    where = names(images)
    for run in range(runs):
        difficulty = rng.beta(2, 3, images)[:, None]
        f1 = difficulty * rng.beta(1, 1, (images, submissions))
        options = {"draws": DRAWS, "seed": run}
        best = f1[:, f1.mean(axis=0).argmax()]
        pairwise = [difference_interval(column, best, *where, **options) for column in f1.T]
        scores = {str(number): column for number, column in enumerate(f1.T)}
        shares += [
            not all(ends.holds_zero() for ends in pairwise),
            max(place.rank for place in tie_groups(scores, *where, **options)) > 1,
        ]
    return shares / runs


@pytest.mark.parametrize(
    ("count", "lost"), [(12, 0.5), (36, 0.5), (60, 0.5), (120, 0.9), (120, 0.98), (400, 0.98)]
)
def test_intervals_of_few_images_hold_the_truth_as_often_as_they_say(count, lost):
    percentile, found = coverage(count, lost, 400)
    print(f"{count} images, {lost:.0%} lost: percentile {percentile:.3f}, bootstrap-t {found:.3f}")
    assert found >= 0.92
    assert found > percentile


@pytest.mark.parametrize(("count", "lost"), [(12, 0.5), (36, 0.9), (60, 0.5), (120, 0.98), (400, 0.98)])
def test_two_equal_submissions_are_rarely_called_different_where_most_images_are_lost(count, lost):
    rng, runs, different = np.random.default_rng(count), 400, 0
    for run in range(runs):
        first, second = attacked_f1(rng, count, lost), attacked_f1(rng, count, lost)
        ends = difference_interval(first, second, *names(count), draws=DRAWS, seed=run)
        different += not ends.holds_zero()
    print(f"{count} images, {lost:.0%} lost: called different {different / runs:.3f}")
    assert different / runs <= 0.12


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_intervals_of_rp_hold_the_truth_where_few_images_lose_anything(rate):
    """The others keep their F1 bit by bit, as behind a defence that writes few pixels."""
    rng, count, runs = np.random.default_rng(1), 60, 300
    covered, widths = 0, []
    for run in range(runs):
        original = rng.beta(6, 1.5, count)
        f1 = original * (1 - rng.random(count) * (rng.random(count) < rate))
        found = rp_interval(f1, original, *names(count), draws=DRAWS, seed=run)
        covered += found.low <= 100 * (1 - rate / 2) <= found.high
        widths.append(found.high - found.low)
    print(f"{rate:.0%} lose: {covered / runs:.3f}, {np.median(widths):.1f} wide")
    assert covered / runs >= 0.92


@pytest.mark.parametrize(("submissions", "runs"), [(5, 200), (20, 100)])
def test_equal_submissions_are_rarely_separated_however_many_there_are(submissions, runs):
    pairwise, found = separated(submissions, runs)
    print(f"{submissions} submissions: pairwise {pairwise:.3f}, max-T {found:.3f}")
    assert found <= 0.1
    assert pairwise > 0.15
