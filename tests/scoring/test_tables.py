"""Every figure of a score against numbers worked out by hand, and what must hold of any table."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afbench.scoring.score_tables import COLUMNS, build_tables, ranking_rows
from afbench.scoring.statistics import mean_interval, rp_interval
from afbench.scoring.ties import tie_groups

PHI = 1 / 255


def row(config, sample, f1, original, undefended=None, *, source="a", localizer="loc", **more):
    """A row whose F1 is ``f1`` (a multiple of 1/1000) by its counts; ``config`` names attack and setting."""
    attack, _, setting = config.partition("-")
    tp = round(1000 * f1)
    counts = (
        {"tp": tp, "fp": 2000 - 2 * tp, "fn": 0, "tn": 500} if tp else {"tp": 0, "fp": 7, "fn": 3, "tn": 90}
    )
    return {
        "localizer": localizer,
        "source": source,
        "config": config if attack == "clean" else f"{localizer}-{config}",
        "attack": attack,
        "phi": math.nan if attack in ("cw", "clean") else int(setting) * PHI,
        "steps": int(setting) if attack == "cw" else 0 if attack in ("clean", "noise") else 10,
        "sample_id": sample,
        **counts,
        "f1_original": original,
        "f1_undefended": original if undefended is None else undefended,
        "auc": math.nan,
        "f1_best": math.nan,
        **more,
    }


def frame(*rows):
    return pd.DataFrame(rows)


EXAMPLE = frame(
    row("clean", "x", 0.8, 0.8),
    row("clean", "y", 0.5, 0.4),
    row("clean", "z", 0.9, 0.9, source="b"),
    row("pgd-1", "x", 0.4, 0.8, 0.2),
    row("pgd-1", "y", 0.2, 0.4, 0.1),
    row("pgd-1", "z", 0.6, 0.9, 0.0, source="b"),
    row("pgd-2", "x", 0.1, 0.8, 0.1),
    row("pgd-2", "y", 0.3, 0.4, 0.0),
    row("pgd-2", "z", 0.5, 0.9, 0.1, source="b"),
    row("cw-50", "x", 0.3, 0.8, 0.0),
    row("cw-50", "y", 0.1, 0.4, 0.0),
    row("cw-50", "z", 0.7, 0.9, 0.0, source="b"),
    row("noise-1", "x", 0.0, 0.8, 0.7),
    row("noise-1", "y", 0.0, 0.4, 0.3),
    row("noise-1", "z", 0.0, 0.9, 0.8, source="b"),
)


def figures_of(table, **options):
    return build_tables(table, **{"draws": 50, **options})


def near(found, **expected):
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def config_row(tables, config, source="a"):
    (found,) = [one for one in tables["configs"] if (one["config"], one["source"]) == (config, source)]
    return found


def test_a_config_and_source_is_averaged_over_its_images():
    found = config_row(figures_of(EXAMPLE), "loc-pgd-1")
    near(found, n=2, n_undefined=0, f1=0.3, rp=100 * 0.6 / 1.2, delta_f1=0.3 - 0.15)
    near(found, iou=np.mean([0.4 / 1.6, 0.2 / 1.8]), phi=PHI)
    counts = np.array([[400, 1200, 0, 500], [200, 1600, 0, 500]]).T.astype(float)
    tp, fp, fn, tn = counts
    mcc = (tp * tn - fp * fn) / np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    near(found, mcc=mcc.mean())
    assert (found["localizer"], found["attack"], found["steps"]) == ("loc", "pgd", 10)
    near(config_row(figures_of(EXAMPLE), "clean"), f1=0.65, rp=100 * 1.3 / 1.2, delta_f1=0.05)


def test_micro_weighs_images_alike_and_macro_sources():
    found = figures_of(EXAMPLE)["aggregates"]["loc"]
    a, b = [0.4, 0.2, 0.1, 0.3, 0.3, 0.1], [0.6, 0.5, 0.7]
    originals_a, originals_b = [0.8, 0.4] * 3, [0.9] * 3
    near(found["micro"], n=9, f1=np.mean(a + b), rp=100 * sum(a + b) / sum(originals_a + originals_b))
    near(found["micro"], delta_f1=np.mean(a + b) - 0.5 / 9)
    near(found["macro"], n=9, n_sources=2, f1=(np.mean(a) + np.mean(b)) / 2)
    near(found["macro"], rp=50 * (sum(a) / sum(originals_a) + sum(b) / sum(originals_b)))
    near(found["macro"], delta_f1=(np.mean(a) + np.mean(b)) / 2 - (0.4 / 6 + 0.1 / 3) / 2)


def test_figures_per_attack_show_the_controls_and_those_per_source_leave_them_out():
    found = figures_of(EXAMPLE)["aggregates"]["loc"]
    assert list(found["per_attack"]) == ["clean", "pgd", "cw", "noise"]
    near(found["per_attack"]["pgd"], n=6, f1=2.1 / 6, rp=100 * 2.1 / 4.2)
    near(found["per_attack"]["cw"], n=3, f1=1.1 / 3, rp=100 * 1.1 / 2.1)
    near(found["per_attack"]["clean"], n=3, f1=2.2 / 3, rp=100 * 2.2 / 2.1)
    near(found["per_attack"]["noise"], f1=0, rp=0, delta_f1=-0.6)
    assert list(found["per_source"]) == ["a", "b"]
    near(found["per_source"]["a"], n=6, f1=1.4 / 6, rp=100 * 1.4 / 3.6)
    near(found["per_source"]["b"], n=3, f1=0.6, rp=100 * 1.8 / 2.7)


def test_the_worst_case_is_the_lowest_of_each_image_over_attacks():
    found = figures_of(EXAMPLE)["aggregates"]["loc"]
    near(found["worst_case"], n=3, f1=(0.1 + 0.1 + 0.5) / 3, rp=100 * 0.7 / 2.1, delta_f1=0.7 / 3)
    near(found["per_source"]["a"]["worst_case"], n=2, f1=0.1, rp=100 * 0.2 / 1.2)
    near(found["per_source"]["b"]["worst_case"], n=1, f1=0.5, rp=100 * 0.5 / 0.9)


def test_intervals_are_those_of_the_statistics_on_the_same_images():
    tables = build_tables(EXAMPLE, draws=200, seed=3)["aggregates"]["loc"]
    rows = ranking_rows(EXAMPLE)
    where, keep = (rows["source"], rows["sample_id"]), {"draws": 200, "seed": 3}
    assert tables["micro"]["f1_ci"] == pytest.approx(mean_interval(rows["f1"], *where, **keep), abs=1e-9)
    expected = rp_interval(rows["f1"], rows["f1_original"], *where, **keep)
    assert tables["micro"]["rp_ci"] == pytest.approx(expected, abs=1e-6)
    lowest = rows.groupby(["source", "sample_id"])[["f1", "f1_original"]].min().reset_index()
    where = lowest["source"], lowest["sample_id"]
    expected = rp_interval(lowest["f1"], lowest["f1_original"], *where, **keep)
    assert tables["worst_case"]["rp_ci"] == pytest.approx(expected, abs=1e-6)
    a_only = rows[rows["source"] == "a"]
    expected = mean_interval(a_only["f1"], a_only["source"], a_only["sample_id"], **keep)
    assert tables["per_source"]["a"]["f1_ci"] == pytest.approx(expected, abs=1e-9)
    b_only = rows[rows["source"] == "b"]  # one image: no doubt of its own, and no interval
    assert tables["per_source"]["b"]["f1_ci"] is None
    shifted = [(edge + b_only["f1"].mean()) / 2 for edge in expected]
    assert tables["macro"]["f1_ci"] == pytest.approx(shifted, abs=1e-9)


def test_the_ranked_figure_is_micro_remaining_performance():
    rows = ranking_rows(EXAMPLE)
    (place,) = tie_groups(
        {"one": rows["f1"]}, rows["source"], rows["sample_id"], f1_original=rows["f1_original"], draws=20
    )
    assert place.value == figures_of(EXAMPLE)["aggregates"]["loc"]["micro"]["rp"]


def test_undefined_images_are_counted_and_left_out_above_and_below():
    table = frame(
        row("pgd-1", "x", 0.4, 0.8),
        row("pgd-1", "y", 0.2, math.nan),
        row("pgd-1", "z", 0.6, 0.4, math.nan),
    )
    found = figures_of(table)
    near(config_row(found, "loc-pgd-1"), n=3, n_undefined=2, f1=0.4, rp=50, delta_f1=-0.4)
    near(found["aggregates"]["loc"]["worst_case"], n=3, n_undefined=2, f1=0.4, rp=50)
    assert config_row(found, "loc-pgd-1")["f1_ci"] is None  # one image


def test_authentic_images_have_a_false_positive_rate_and_nothing_else():
    empty = {"tp": 0, "fn": 0}
    table = frame(
        row("pgd-1", "x", 0.4, 0.8),
        row("pgd-1", "y", 0.2, 0.8),
        row("pgd-1", "real", 0, 0.0, **empty | {"fp": 30, "tn": 70}),  # F1 0, were it forged
        row("pgd-1", "blank", 0, math.nan, **empty | {"fp": 0, "tn": 100}),
    )
    tables = figures_of(table)
    for found in (config_row(tables, "loc-pgd-1"), tables["aggregates"]["loc"]["micro"]):
        near(found, n=2, n_undefined=0, f1=0.3, rp=37.5, n_authentic=2, fpr=0.15)
    only = figures_of(table[2:])
    found = config_row(only, "loc-pgd-1")
    assert found["n"] == found["n_undefined"] == 0 and found["fpr"] == pytest.approx(0.15)
    assert [found[name] for name in ("f1", "f1_ci", "iou", "mcc", "rp", "rp_ci", "delta_f1")] == [None] * 7
    assert "fpr" not in config_row(figures_of(EXAMPLE), "clean")


def test_figures_of_maps_are_there_where_maps_are():
    table = EXAMPLE.assign(auc=np.linspace(0.5, 1, len(EXAMPLE)), f1_best=0.9)
    table.loc[table["config"] == "loc-cw-50", ["auc", "f1_best"]] = math.nan
    tables = figures_of(table)
    near(config_row(tables, "loc-pgd-1"), auc=(0.5 + 3.5 / 28), f1_best=0.9)
    assert "auc" not in config_row(tables, "loc-cw-50") and "f1_best" not in config_row(tables, "loc-cw-50")
    assert "auc" not in tables["aggregates"]["loc"]["per_attack"]["cw"]
    without = figures_of(EXAMPLE.drop(columns=["auc", "f1_best"]))
    assert without == figures_of(EXAMPLE) and '"auc"' not in json.dumps(without)


@pytest.mark.parametrize(
    ("seen", "flagged"),
    [
        (["pgd"], {"loc-pgd-1", "loc-pgd-2"}),
        (["loc-pgd"], {"loc-pgd-1", "loc-pgd-2"}),
        (["loc-pgd-2", "other-cw"], {"loc-pgd-1", "loc-pgd-2"}),
        (["loc-pgd-3-1a2b3c"], {"loc-pgd-1", "loc-pgd-2"}),
        (["PGD", "C&W"], {"loc-pgd-1", "loc-pgd-2", "loc-cw-50"}),
        (["other-pgd-1", "loc-p", "loc"], set()),
        (["clean"], {"clean"}),
        ([], set()),
    ],
)
def test_what_a_defence_was_trained_on_is_flagged(seen, flagged):
    tables = figures_of(EXAMPLE, seen_in_training=seen)
    assert {one["config"] for one in tables["configs"] if one["seen_in_training"]} == flagged
    found = tables["aggregates"]["loc"]
    assert found["per_attack"]["pgd"]["seen_in_training"] == any("pgd" in name for name in flagged)
    assert found["micro"]["seen_in_training"] == found["worst_case"]["seen_in_training"]
    assert found["micro"]["seen_in_training"] == bool(flagged - {"clean"})


def test_rows_stand_by_localizer_attack_and_strength():
    table = pd.concat([EXAMPLE, EXAMPLE.assign(localizer="abc")])
    found = [(one["localizer"], one["config"], one["source"]) for one in figures_of(table)["configs"]]
    configs = ["clean", "loc-pgd-1", "loc-pgd-2", "loc-cw-50", "loc-noise-1"]
    assert found == [(who, config, where) for who in ("abc", "loc") for config in configs for where in "ab"]


def test_localizers_are_scored_apart_though_they_share_the_originals():
    table = pd.concat([EXAMPLE, EXAMPLE.assign(localizer="abc", tp=0, fn=5)])
    found = figures_of(table)["aggregates"]
    assert found["loc"] == figures_of(EXAMPLE)["aggregates"]["loc"]
    near(found["abc"]["per_attack"]["clean"], n=3, f1=0, rp=0)


def test_an_image_that_lacks_in_one_config_is_scored_in_the_others():
    table = EXAMPLE[~((EXAMPLE["config"] == "loc-pgd-2") & (EXAMPLE["sample_id"] == "x"))]
    tables = figures_of(table)
    near(config_row(tables, "loc-pgd-2"), n=1, f1=0.3)
    near(tables["aggregates"]["loc"]["worst_case"], n=3, f1=(0.3 + 0.1 + 0.5) / 3)


def test_a_benchmark_without_attacks_has_no_average_over_them():
    found = figures_of(EXAMPLE[EXAMPLE["attack"] == "clean"])["aggregates"]["loc"]
    for name in ("micro", "macro", "worst_case"):
        assert (
            found[name]["n"] == 0 and found[name]["f1"] is found[name]["rp"] is found[name]["f1_ci"] is None
        )
    assert found["per_source"] == {} and list(found["per_attack"]) == ["clean"]


def test_no_rows_make_empty_tables():
    found = figures_of(EXAMPLE[:0])
    assert found["configs"] == [] and found["aggregates"] == {}


def test_originals_that_nothing_was_found_on_leave_no_percentage():
    found = figures_of(frame(row("pgd-1", "x", 0.4, 0.0), row("pgd-1", "y", 0.2, 0.0)))
    near(found["aggregates"]["loc"]["micro"], f1=0.3)
    assert found["aggregates"]["loc"]["micro"]["rp"] is None
    assert found["aggregates"]["loc"]["macro"]["rp_ci"] is None


def test_the_bootstrap_says_what_it_did():
    assert build_tables(EXAMPLE, draws=30, seed=9)["bootstrap"] == {
        "draws": 30,
        "seed": 9,
        "level": 0.95,
        "interval": "percentile",
        "interval_below_100_nonzero_images": "bootstrap-t",
        "unit": "image",
        "paired_by": "sample_id",
        "stratified_by": "source",
    }


def test_tables_that_cannot_be_right_are_refused():
    with pytest.raises(ValueError, match=r"twice, first .*'loc-pgd-1', 'a', 'x'"):
        build_tables(pd.concat([EXAMPLE, EXAMPLE[3:4]]))
    with pytest.raises(ValueError, match="lacks the columns fn, f1_original"):
        build_tables(EXAMPLE.drop(columns=["fn", "f1_original"]))


def test_the_table_that_was_given_stays_as_it_is():
    before = EXAMPLE.copy(deep=True)
    figures_of(EXAMPLE, seen_in_training=["pgd"])
    pd.testing.assert_frame_equal(EXAMPLE, before)


def test_text_columns_of_any_kind_make_the_same_table():
    tables = figures_of(EXAMPLE, seen_in_training=["pgd"])
    names = ["localizer", "config", "source", "attack", "sample_id"]
    for kind in ("category", object):
        assert figures_of(EXAMPLE.astype(dict.fromkeys(names, kind)), seen_in_training=["pgd"]) == tables


counts = st.integers(0, 30)


@st.composite
def per_image(draw):
    """A benchmark of some sources and configs, now and then with an undefined or authentic image."""
    rows = []
    configs = draw(
        st.lists(
            st.sampled_from(["clean", "pgd-1", "pgd-3", "cw-50", "noise-1", "own-2"]), min_size=1, unique=True
        )
    )
    for source in draw(st.sampled_from(["a", "ab", "abc"])):
        for number in range(draw(st.integers(1, 4))):
            original = draw(st.sampled_from([0.0, 0.25, 0.7, 1.0, math.nan]))
            truth = draw(st.integers(0, 3))
            for config in configs:
                tp, fp, fn, tn = (draw(counts) for _ in range(4))
                cells = {"tp": tp, "fp": fp, "fn": fn + 1, "tn": tn}
                if not truth:
                    cells |= {"tp": 0, "fn": 0}
                undefended = draw(st.sampled_from([0.0, 0.3, 1.0]))
                rows.append(row(config, f"s{number}", 0.5, original, undefended, source=source, **cells))
    return frame(*rows)


@settings(max_examples=15)
@given(per_image(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_byte(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    mixed = table.iloc[order, :][random.sample(list(table.columns), len(table.columns))]
    mixed.index = random.sample(range(1000), len(mixed))
    expected = json.dumps(figures_of(table, seen_in_training=["pgd"]), allow_nan=False)  # no NaN, plain types
    assert json.dumps(figures_of(mixed, seen_in_training=["pgd"])) == expected
    assert json.dumps(figures_of(table, seen_in_training=["pgd"])) == expected


def test_an_interval_is_finite_where_draws_differ_by_rounding_alone():
    table = frame(
        row("noise-1", "x", 0, 0.0, 0.0, tp=1, fp=0, fn=1, tn=0),
        row("noise-1", "y", 0, 0.0, 0.0, tp=1, fp=0, fn=1, tn=0),
        row("noise-1", "z", 0, 0.5, 0.0, source="c", tp=1, fp=2, fn=3, tn=2),
    )
    (figures,) = figures_of(table)["configs"][:1]
    assert figures["n"] == 2
    low, high = figures_of(table)["aggregates"]["loc"]["per_attack"]["noise"]["f1_ci"]
    assert 0 <= low < 34 / 63 < high <= 1


def every_figure(value):
    if isinstance(value, dict) and "f1" in value:
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from every_figure(part)


@settings(max_examples=15)
@given(per_image())
def test_figures_stay_in_their_ranges(table):
    tables = figures_of(table)
    forged = int((table["tp"] + table["fn"] > 0).sum())
    assert sum(one["n"] for one in tables["configs"]) == forged
    for found in every_figure(tables):
        assert 0 <= found["n_undefined"] <= found["n"]
        if found["f1"] is None:
            assert found["f1_ci"] is found["rp"] is found["rp_ci"] is None
            continue
        assert 0 <= found["f1"] <= 1 and -1 <= found["delta_f1"] <= 1
        if "iou" in found:
            assert 0 <= found["iou"] <= found["f1"] and -1 <= found["mcc"] <= 1
        if found["f1_ci"]:
            assert 0 <= found["f1_ci"][0] <= found["f1_ci"][1] <= 1
        assert found["rp"] is None or found["rp"] >= 0
        assert found.get("fpr") is None or 0 <= found["fpr"] <= 1
    for found in tables["aggregates"].values():
        if found["micro"]["f1"] is not None:
            assert found["worst_case"]["f1"] <= max(
                one["f1"] for one in tables["configs"] if one["f1"] is not None and one["attack"] != "clean"
            )


@settings(max_examples=15)
@given(per_image())
def test_predictions_like_the_undefended_lose_nothing(table):
    below = 2 * table["tp"] + table["fp"] + table["fn"]
    f1 = (2 * table["tp"] / below.where(below > 0)).astype(float)
    kept = figures_of(table.assign(f1_original=f1, f1_undefended=f1))
    for found in every_figure(kept):
        assert found["delta_f1"] in (0, None)
        assert found["rp"] is None or found["rp"] == pytest.approx(100, abs=1e-9)
        if found["rp_ci"]:
            assert found["rp_ci"] == pytest.approx([100, 100], abs=1e-6)


def test_there_is_no_column_but_those_named():
    assert set(COLUMNS) | {"auc", "f1_best"} == set(EXAMPLE.columns)
