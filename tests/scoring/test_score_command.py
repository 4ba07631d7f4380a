"""``afbench score``: what it prints, what it exits with, and that it writes nothing for what is invalid."""

import json
import shlex

import numpy as np
import pytest
from submissions import FIRST, SHAPE, defended, make_submission, pack, png, rehash, write

from afbench.cli.score_command import command


def test_the_table_shows_the_average_the_worst_case_and_every_attack(afbench, bench, submission):
    ran = afbench("score", submission, "--data", bench, "--out", "score", "--wide")
    assert ran.code == 0, ran.err
    head, *body = ran.out.splitlines()
    assert head.split()[:2] == ["localizer", "images"] and "95 % of RP" in head
    labels = [line[5:].lstrip().split("  ")[0] for line in body]
    assert labels[:3] == [
        "all attacks (micro) (seen in training)",
        "mean of sources (macro) (seen in training)",
        "worst case per image (seen in training)",
    ]
    assert "clean" in labels and "pgd (seen in training)" in labels and "cw" in labels and " to " in body[0]


def test_the_example_of_the_help_runs(afbench, bench, submission, tmp_path):
    told = afbench("score", "--help").out
    arguments = shlex.split(told.rpartition("Example: ")[2])[1:]
    (tmp_path / "afbench-out").mkdir()
    (tmp_path / "afbench-out/demo").symlink_to(bench)
    ran = afbench(*arguments)
    assert ran.code == 0 and (tmp_path / "score/score.json").is_file()
    assert command.name == arguments[0]


def test_validate_only_says_so_and_writes_nothing(afbench, bench, submission, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    ran = afbench("score", submission, "--data", bench, "--validate-only")
    assert ran.code == 0 and ran.out == f"{submission}: valid, 20 masks\n"
    told = json.loads(afbench("score", submission, "--data", bench, "--validate-only", "--json").out)
    assert told["valid"] and told["masks"] == 20 and told["missing"] == 0 and told["warnings"] == []
    assert sorted(tmp_path.rglob("*")) == before


def test_an_invalid_submission_is_told_in_full_with_exit_code_1(afbench, bench, submission, tmp_path):
    write(submission, FIRST, png(np.full(SHAPE, 7, np.uint8)))
    rehash(submission)
    before = sorted(tmp_path.rglob("*"))
    ran = afbench("score", submission, "--data", bench, "--out", "score")
    assert ran.code == 1 and sorted(tmp_path.rglob("*")) == before
    assert ran.out.splitlines() == [
        "AF007 another mode or other values than a mask may have: 1",
        f"  {FIRST}: holds grey level 7; a mask holds 0 and 255",
    ]
    assert ran.err.endswith("submission: invalid\n") and "Traceback" not in ran.err
    told = json.loads(afbench("score", submission, "--data", bench, "--out", "score", "--json").out)
    assert not told["valid"] and [one["code"] for one in told["problems"]] == ["AF007"]


def test_masks_that_are_inverted_are_told_where_they_are_checked_too(afbench, bench, tmp_path):
    black = make_submission(tmp_path / "black", bench, mask=lambda *of: ~defended(*of))
    for how in (("--validate-only",), ("--out", "score", "--wide")):
        ran = afbench("score", black, "--data", bench, *how)
        assert ran.code == 0 and "AF015: loc: masks of the originals look inverted: F1 " in ran.out + ran.err


def test_the_score_is_json_for_programs(afbench, bench, submission, tmp_path):
    ran = afbench("score", pack(submission, "zip"), "--data", bench, "--out", "score", "--json")
    assert json.loads(ran.out) == json.loads((tmp_path / "score/score.json").read_text())


def test_a_partial_score_says_that_it_cannot_be_ranked(afbench, bench, submission):
    (submission / FIRST).unlink()
    rehash(submission)
    ran = afbench("score", submission, "--data", bench, "--out", "score", "--partial")
    assert ran.code == 0 and "\npartial: 1 predictions are missing, so this cannot be ranked\n" in ran.out
    assert "images as a whole: no figures, for no authentic images were localized" in ran.out


def test_the_table_ends_with_the_baselines_and_says_what_chance_reaches(afbench, bench, submission, tmp_path):
    good = afbench("score", submission, "--data", bench, "--out", "score", "--wide").out
    assert "loc        not ranked: none" in good and "loc        not ranked: all-ones" in good
    assert "not shown to beat" not in good
    ones = make_submission(tmp_path / "ones", bench, mask=lambda *of: np.ones(SHAPE, bool))
    told = afbench("score", ones, "--data", bench, "--out", "ones-score", "--wide").out
    assert "loc: not shown to beat a mask of ones in F1 (" in told
    assert "AF015: loc is not ranked: nearly every pixel" in told and "partial" not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("submission", "--data", "bench"), "give either --out FOLDER or --validate-only"),
        (("submission", "--data", "bench", "--out", "x", "--validate-only"), "give either --out"),
        (("submission", "--out", "x"), "Missing option '--data'"),
        (("nothing", "--data", "bench", "--out", "x"), "submission 'nothing' does not exist"),
        (("submission", "--data", "submission", "--out", "x"), "is no benchmark"),
        (("submission", "--data", "bench", "--out", "x", "--board", "nothing"), "is no folder"),
        (("submission", "--data", "bench", "--out", "submission/manifest.json"), "is a file"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(afbench, bench, submission, tmp_path, arguments, told):
    (tmp_path / "bench").symlink_to(bench)
    ran = afbench("score", *arguments)
    assert ran.code == 2 and told in ran.err and len(ran.err.splitlines()) == 1 and ran.out == ""
    assert not (tmp_path / "x").exists()
