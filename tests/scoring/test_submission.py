"""Every code: a crafted bad submission gets it, all are reported at once, and nothing is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from submissions import (
    BAD_ARCHIVES,
    BAD_FOLDERS,
    FIRST,
    SHAPE,
    as_table,
    defended,
    make_submission,
    png,
    rehash,
    table,
    truth_of,
    undefended,
    write,
)

from afbench.core import UsageError
from afbench.resources import resource_path
from afbench.scoring.parquet_masks import read_parquet
from afbench.scoring.problems import TITLES, InvalidSubmission, Problems, Refusal
from afbench.scoring.score import examine, score


def refused(path, data, **options):
    with pytest.raises(InvalidSubmission) as told:
        score(path, data, out=Path(path).parent / "score", **options)
    assert not (Path(path).parent / "score").exists()
    assert "\n" not in str(told.value) and str(told.value).isprintable()
    return told.value.problems


def test_a_valid_submission_is_valid(bench, submission):
    examined = examine(submission, bench)
    assert examined.missing == 0 and len(examined.per_image) == 20
    assert examined.warnings == []


@pytest.mark.reliability("R14")
@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_folder_gets_its_code(bench, submission, name):
    code, spoil = BAD_FOLDERS[name]
    spoil(submission)
    problems = refused(submission, bench)
    assert code in problems.counts, problems.lines()
    assert all(line.isprintable() for line in problems.lines())


@pytest.mark.reliability("R14")
@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_gets_its_code(bench, submission, name):
    code, make = BAD_ARCHIVES[name]
    problems = refused(make(submission), bench)
    assert code in problems.counts, problems.lines()


def test_every_code_has_a_bad_submission():
    tried = {code for code, _ in (*BAD_FOLDERS.values(), *BAD_ARCHIVES.values())}
    assert tried == TITLES.keys() - {"AF015", "AF016"}  # a warning, and the board's: below


def test_what_is_wrong_in_one_way_gets_no_other_code(bench, submission):
    for name in (
        "grey values",
        "other weights",
        "other version",
        "RGB",
        "truncated PNG",
        "PNG bomb",
        "case twice",
    ):
        make = make_submission(submission.parent / name.replace(" ", "-"), bench)
        code, spoil = BAD_FOLDERS[name]
        spoil(make)
        assert set(refused(make, bench).counts) == {code}, name


def test_all_problems_are_reported_at_once_counted_and_the_first_twenty_named(bench, submission):
    for number in range(30):
        write(submission, f"predictions/loc/a/clean/x-{number:02d}.png", png(np.zeros(SHAPE, bool)))
    write(submission, FIRST, png(np.full(SHAPE, 9, np.uint8)))
    (submission / "predictions/loc/b/clean/IMG.png").unlink()
    rehash(submission)
    BAD_FOLDERS["other weights"][1](submission)
    problems = refused(submission, bench)
    assert problems.counts == {"AF003": 30, "AF004": 1, "AF007": 1, "AF017": 1}
    unknown = next(one for one in problems.as_json() if one["code"] == "AF003")
    assert unknown["count"] == 30 and len(unknown["first"]) == 20
    assert unknown["first"][0]["where"] == "predictions/loc/a/clean/x-00.png"
    assert "  ... and 10 more" in problems.lines()


@pytest.mark.reliability("R14")
def test_the_first_named_do_not_depend_on_the_order_and_counts_stay_exact():
    names = [f"{number:05d}" for number in range(9000)]
    forward, backward = Problems(), Problems()
    forward.extend("AF003", ((name, "x") for name in names))
    backward.extend("AF003", ((name, "x") for name in reversed(names)))
    assert forward.as_json() == backward.as_json()
    assert forward.counts["AF003"] == 9000 and len(backward.first_problems["AF003"]) <= 2000


def test_coverage_is_counted_exactly_and_partial_scores_without_a_rank(bench, submission):
    for config in ("clean", "loc-cw-50"):
        (submission / f"predictions/loc/a/{config}/a-1.png").unlink()
    rehash(submission)
    problems = refused(submission, bench)
    assert problems.counts == {"AF004": 2}
    assert problems.lines()[1:] == [
        "  loc/a/clean/a-1: has no prediction",
        "  loc/a/loc-cw-50/a-1: has no prediction",
    ]
    found = score(submission, bench, partial=True)
    assert not found.score["rankable"] and found.score["missing"] == 2 and len(found.per_image) == 18


def test_a_partial_submission_of_nothing_is_invalid(bench, submission):
    for path in submission.rglob("*.png"):
        path.unlink()
    rehash(submission)
    assert set(refused(submission, bench, partial=True).counts) == {"AF004"}


def test_samples_that_the_benchmark_tells_apart_by_case_are_no_duplicates(bench, submission):
    assert (submission / "predictions/loc/b/clean/IMG.png").is_file()
    assert {"IMG", "img"} <= set(examine(submission, bench).per_image["sample_id"])


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_parquet_scores_as_the_png_it_holds(bench, submission, tmp_path, compression):
    before = examine(submission, bench)
    for cell in ("loc/a/clean", "loc/b/loc-pgd-1"):
        as_table(submission, cell, compression=compression)
    after = examine(submission, bench)
    assert after.per_image.equals(before.per_image)


def test_a_page_that_unfolds_to_too_much_is_refused_by_a_child_with_little_memory():
    # in 300 MB there is no room for the first; the second has room, but is larger than any mask
    for size, memory in ((60_000_000, 300 << 20), (1_000_000, 1 << 31)):
        data = table({"sample_id": ["a-0"], "mask": [bytes(size)]}, compression="zstd")
        assert len(data) < 10_000
        with pytest.raises(Refusal) as told:
            list(read_parquet(data, max_rows=5, largest=1000, memory=memory))
        assert told.value.code == "AF011"


def test_every_bad_row_of_a_parquet_file_is_named(bench, submission):
    masks = [png(defended("a", one, "clean")) for one in ("a-0", "a-1")]
    columns = {"sample_id": ["a-0", "a-1", "a-9", "a-2"], "mask": [*masks, masks[0], b"no PNG"]}
    BAD_FOLDERS["unknown file"][1](submission)
    for path in submission.glob("predictions/loc/a/clean/*"):
        path.unlink()
    write(submission, "predictions/loc/a/clean.parquet", table(columns))
    rehash(submission)
    problems = refused(submission, bench)
    assert problems.counts == {"AF003": 2, "AF008": 1}
    assert "  predictions/loc/a/clean.parquet: a-2: is no PNG" in problems.lines()


def test_what_looks_odd_is_a_warning_and_not_fatal(bench, tmp_path):
    def odd(source, sample_id, config):
        if config == "clean":
            return np.ones(SHAPE, bool)
        return truth_of(source, sample_id) if "cw" in config else undefended(source, sample_id, config)

    examined = examine(make_submission(tmp_path / "odd", bench, mask=odd), bench)
    assert {one["kind"]: one["count"] for one in examined.warnings} == {
        "baseline": 4,
        "constant": 5,
        "copy": 5,
    }
    found = score(tmp_path / "odd", bench).score
    assert found["rankable"] and len(found["warnings"]) == 3
    assert found["warnings"][2] == "AF015: 5 masks are the truth, pixel by pixel, first loc/a/loc-cw-50/a-0"


def test_content_that_is_on_the_board_is_refused_under_any_name(bench, submission, tmp_path):
    score(submission, bench, out=tmp_path / "board" / "first")
    other = make_submission(tmp_path / "other", bench, submission_id="test-2", display_name="Mine")
    problems = refused(other, bench, board=tmp_path / "board")
    assert set(problems.counts) == {"AF016"} and "'test-1'" in problems.lines()[1]
    with pytest.raises(UsageError, match="no folder"):
        examine(other, bench, board=tmp_path / "nowhere")


def test_the_schema_is_a_schema_and_takes_what_predict_writes():
    schema = json.loads(resource_path("manifests/schema/submission.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator.check_schema(
        json.loads(resource_path("manifests/schema/score.schema.json").read_text())
    )
    assert set(schema["required"]) == set(schema["properties"]) - {"configs_sha256"}


def test_what_predict_has_not_finished_is_told_so(bench, submission):
    (submission / "manifest.json").rename(submission / "begun.json")
    assert any("`afbench predict` has not ended" in line for line in refused(submission, bench).lines())
