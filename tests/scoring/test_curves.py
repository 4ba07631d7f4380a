"""F1 over the strength of an attack against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from test_tables import EXAMPLE, PHI, frame, row

from afbench.scoring.curves import curves
from afbench.scoring.score_tables import score_rows
from afbench.scoring.statistics import SMALL, mean_interval


def test_a_curve_starts_at_the_originals_and_goes_on_by_strength():
    pgd, cw, noise = curves(score_rows(EXAMPLE), "loc")
    assert [curve["attack"] for curve in (pgd, cw, noise)] == ["pgd", "cw", "noise"]
    assert [curve["strength"] for curve in (pgd, cw, noise)] == ["phi", "steps", "phi"]
    assert [point["strength"] for point in pgd["points"]] == [0, PHI, 2 * PHI]
    assert [point["f1"] for point in pgd["points"]] == pytest.approx([2.2 / 3, 0.4, 0.3])
    assert [point["undefended"] for point in pgd["points"]] == pytest.approx([0.7, 0.1, 0.2 / 3])
    assert [point["strength"] for point in cw["points"]] == [0, 50]
    assert pgd["points"][0] == cw["points"][0] == noise["points"][0]
    ends = mean_interval([0.4, 0.2, 0.6], ["a", "a", "b"], ["x", "y", "z"])
    assert pgd["points"][1]["f1_ci"] == pytest.approx(list(ends))


def test_an_image_that_two_settings_of_one_strength_hold_counts_once_in_the_interval():
    other = EXAMPLE.query("config == 'loc-pgd-1'").assign(config="loc-pgd-1-other", tp=0, fp=7, fn=3, tn=90)
    (pgd, *_) = curves(score_rows(pd.concat([EXAMPLE, other])), "loc")
    point = pgd["points"][1]
    assert point["f1"] == pytest.approx(0.2)
    assert point["f1_ci"] == pytest.approx(
        list(mean_interval([0.2, 0.1, 0.3], ["a", "a", "b"], ["x", "y", "z"]))
    )


def test_many_images_have_percentile_intervals_and_a_setting_of_few_its_own_rule():
    f1 = np.round(np.random.default_rng(0).beta(1, 4, SMALL), 3)
    rows = [row("pgd-1", f"s{number:03d}", value, 0.8) for number, value in enumerate(f1)]
    rows += [row("pgd-2", f"s{number:03d}", value, 0.8) for number, value in enumerate(f1[:20])]
    (pgd,) = curves(score_rows(frame(*rows)), "loc")
    names = ["a"] * SMALL, [f"s{number:03d}" for number in range(SMALL)]
    for point, count in zip(pgd["points"], (SMALL, 20), strict=True):
        ends = mean_interval(f1[:count], *(column[:count] for column in names))
        assert point["f1_ci"] == pytest.approx(list(ends), abs=1e-9)


def test_images_that_a_setting_lacks_are_no_zeros_of_it():
    rows = [row("pgd-1", f"s{number:03d}", 0.7, 0.8) for number in range(SMALL + 20)]
    rows += [row("pgd-2", f"s{number:03d}", 0.1 + number / 1000, 0.8) for number in range(2 * SMALL)]
    (pgd,) = curves(score_rows(frame(*rows)), "loc")
    names = ["a"] * (SMALL + 20), [f"s{number:03d}" for number in range(SMALL + 20)]
    assert pgd["points"][0]["f1_ci"] == pytest.approx(
        list(mean_interval([0.7] * (SMALL + 20), *names)), abs=1e-9
    )


def test_without_a_defined_image_there_is_no_curve():
    assert curves(score_rows(EXAMPLE.assign(f1_original=np.nan)), "loc") == []
    assert curves(score_rows(EXAMPLE), "another") == []
