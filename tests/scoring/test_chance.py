"""Baselines in every table, submissions that do not look at the image, and ranks that chance would reach as well."""

import json

import numpy as np
import pandas as pd
import pytest
from scores import PIXELS, per_image, write_score
from submissions import SHAPE, make_submission

from afbench.reports.site import render_site
from afbench.scoring.boards import build_boards
from afbench.scoring.chance import baseline_tables, chance, constant_masks, inverted_masks
from afbench.scoring.score import score
from afbench.scoring.stored_scores import read_score


def masks_of(share, table=None, forged=1000):
    """Rows of masks of which a share is forged, placed as chance would have it; ``forged`` pixels really are."""
    table = per_image(0.5) if table is None else table
    share = np.broadcast_to(share, len(table))
    tp = np.rint(forged * share).astype(int)
    fp = np.rint((PIXELS - forged) * share).astype(int)
    return table.assign(tp=tp, fp=fp, fn=forged - tp, tn=PIXELS - forged - fp)


ALL_ONES = 2 * 1000 / (1000 + PIXELS)


def test_baselines_are_the_means_of_what_they_stand_for():
    table = per_image(0.5)
    found = baseline_tables(table, "reference", draws=50)
    attacked = table[~table["attack"].isin(["clean", "noise"])]
    assert found["none"]["micro"]["f1"] == pytest.approx(attacked["f1_undefended"].mean())
    wanted = 100 * attacked["f1_undefended"].mean() / attacked["f1_original"].mean()
    assert found["none"]["micro"]["rp"] == pytest.approx(wanted)
    assert found["none"]["per_attack"]["clean"]["rp"] == pytest.approx(100)
    for attack, figures in found["all-ones"]["per_attack"].items():
        assert figures["f1"] == pytest.approx(ALL_ONES), attack
    assert found["all-ones"]["micro"]["rp_ci"][0] < found["all-ones"]["micro"]["rp"]


def test_what_the_bare_localizer_finds_is_unknown_where_attacks_went_through_a_defence():
    table = per_image(0.5)
    through = table.assign(f1_undefended=table["f1_original"])
    assert set(baseline_tables(through, "reference", draws=50)) == {"all-ones"}


def test_chance_is_beaten_where_the_paired_interval_lies_above_it():
    good, all_ones = chance(per_image(0.8), "reference"), chance(masks_of(1.0), "reference")
    assert good.f1 == pytest.approx(ALL_ONES) and good.beaten and good.low > 0.1
    assert not all_ones.beaten and all_ones.low == all_ones.high == 0
    assert not chance(per_image(0.0), "reference").beaten
    one = per_image(0.8, sources={"demo": 1})
    assert not chance(one, "reference").beaten  # one image says nothing of others


def inverted(table):
    return table.assign(tp=table["fn"], fp=table["tn"], fn=table["tp"], tn=table["fp"])


def test_masks_that_fit_better_with_black_for_white_are_told():
    table = per_image(0.5)
    assert inverted_masks(table, "reference") is None
    assert inverted_masks(inverted(table), "reference").startswith(
        "masks of the originals look inverted: F1 0."
    )
    for share in (0.0, 0.01, 0.5, 1.0):  # masks by chance are no more inverted than right
        assert inverted_masks(masks_of(share), "reference") is None


@pytest.mark.parametrize("share", [1.0, 0.995, 0.0, 0.005, 0.8])
def test_masks_that_hardly_depend_on_the_image_are_constant(share):
    forged = np.random.default_rng(0).integers(100, 3000, len(per_image(0.5)))
    assert constant_masks(masks_of(share, forged=forged), "reference")


def test_nearly_all_is_enough_and_a_few_constant_masks_are_not():
    table = per_image(0.5)
    for count, constant in ((4, True), (60, False)):
        share = np.ones(len(table))
        share[: len(table) : len(table) // count] = 0.3
        assert bool(constant_masks(masks_of(share, table), "reference")) is constant, count


def test_a_beaten_defence_and_small_forgeries_are_not_constant():
    table = per_image(0.5)
    beaten = masks_of(np.where(table["attack"] == "clean", 0.3, 0.0), table)
    assert constant_masks(beaten, "reference") is None
    assert constant_masks(per_image(0.5), "reference") is None
    # forgeries of half a percent, found to a half
    tiny = per_image(0.5).assign(tp=10, fp=3, fn=10, tn=PIXELS - 23)
    assert constant_masks(tiny, "reference") is None
    truth_is_all = per_image(0.5).assign(tp=PIXELS - 10, fp=0, fn=10, tn=0)
    assert constant_masks(truth_is_all, "reference") is None


def test_a_constant_submission_is_scored_warned_of_and_not_ranked(bench, tmp_path):
    made = make_submission(tmp_path / "ones", bench, mask=lambda *of: np.ones(SHAPE, bool))
    found = score(made, bench).score
    assert not found["rankable"] and found["missing"] == 0
    assert any("loc is not ranked: nearly every pixel" in one for one in found["warnings"])
    assert not found["baselines"]["loc"]["above_all_ones"]["beaten"]
    assert found["baselines"]["loc"]["all-ones"]["f1"] == found["aggregates"]["loc"]["micro"]["f1"]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A weak localizer, on which all-ones masks are better than both defences; one of them is near all-ones."""
    folder = tmp_path_factory.mktemp("weak")

    def weak(table):
        return table.assign(
            f1_original=0.3 * table["f1_original"], f1_undefended=0.3 * table["f1_undefended"]
        )

    tables = {"good": per_image(0.9), "poor": masks_of(0.0).assign(**weak_counts()), "ones": masks_of(1.0)}
    scores = [read_score(write_score(folder, name, weak(table))) for name, table in tables.items()]
    return build_boards(scores)


def weak_counts():
    tp = np.random.default_rng(1).integers(0, 400, len(per_image(0.5)))
    return {"tp": tp, "fp": 500, "fn": 1000 - tp, "tn": PIXELS - 1500}


def test_all_ones_is_not_ranked_and_stands_below_as_a_baseline_beside_none(board):
    (table,) = board["boards"][0]["tables"]
    assert [(row["submission_id"], row["chance"]["beaten"]) for row in table["ranked"]] == [
        ("good", True),
        ("poor", False),
    ]
    assert [(row["submission_id"], row["why"]) for row in table["unranked"]] == [
        ("ones", "nearly every pixel is forged in nearly every mask")
    ]
    assert [row["name"] for row in table["baselines"]] == ["none", "all-ones"]
    assert table["baselines"][1]["micro"]["rp"] > table["ranked"][1]["micro"]["rp"]


def test_the_page_marks_what_does_not_beat_chance_and_shows_the_baselines(board):
    files = render_site(board)
    page = files["index.html"].decode()
    assert page.count("F1 not above all-ones") == 1
    assert page.count('<tbody class="baselines">') == 1 and "not ranked: a mask of ones" in page
    assert "nearly every pixel is forged in nearly every mask" in page
    assert json.loads(files["leaderboard.json"]) == board
    poor = next(one for one in board["submissions"] if one["submission_id"] == "poor")
    assert b"not shown to be above that of a mask of ones (0.400)" in files[poor["page"]]


def test_a_table_of_constant_submissions_alone_still_shows_the_baselines(tmp_path):
    board = build_boards([read_score(write_score(tmp_path, "ones", masks_of(1.0)))])
    (table,) = board["boards"][0]["tables"]
    assert table["ranked"] == [] and len(table["baselines"]) == 2
    assert b"not ranked: a mask of ones" in render_site(board)["index.html"]


def test_the_table_that_is_given_stays_as_it_is():
    table = per_image(0.5)
    before = table.copy(deep=True)
    baseline_tables(table, "reference", draws=10)
    pd.testing.assert_frame_equal(table, before)
