"""A benchmark that grows leaves what was made for it valid, for what it covers; what changed instead is told."""

import json

import numpy as np
import pytest
from submissions import (
    ADDED,
    CONFIGS,
    FIRST,
    change,
    defended,
    make_benchmark,
    make_submission,
    manifest_of,
    rehash,
    truth_of,
)

from afbench.core import UsageError
from afbench.files import sha256_file
from afbench.scoring.boards import build_boards
from afbench.scoring.compare import compare
from afbench.scoring.problems import InvalidSubmission
from afbench.scoring.score import examine, score
from afbench.scoring.stored_scores import read_score
from afbench.scoring.versions import earlier_parts
from afbench.storage.manifests import open_benchmark

LOC = {name: how for name, how in CONFIGS.items() if how[0] == "loc"}


def grown(folder, **later):
    """A benchmark of one localizer and source, and what it is asked to get later."""
    make_benchmark(folder, sources=("a",), configs=LOC)

    def grow():
        make_benchmark(folder, **{"sources": ("a",), "configs": LOC, **later})
        return folder

    return folder, grow


WAYS = {
    "a config of its localizer": ({"configs": {**LOC, **ADDED}}, ["loc-bim-1 on a"]),
    "another localizer": ({"configs": CONFIGS}, []),
    "another source": (
        {"sources": ("a", "b")},
        ["clean on b", "loc-cw-50 on b", "loc-noise-1 on b", "loc-pgd-1 on b"],
    ),
    "all of them": (
        {"configs": {**CONFIGS, **ADDED}, "sources": ("a", "b")},
        [
            "clean on b",
            "loc-bim-1 on a",
            "loc-bim-1 on b",
            "loc-cw-50 on b",
            "loc-noise-1 on b",
            "loc-pgd-1 on b",
        ],
    ),
}


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_a_submission_stays_valid_for_what_it_covers_when_its_benchmark_grows(tmp_path, way, hashes):
    later, missing = WAYS[way]
    data, grow = grown(tmp_path / "bench", **later)
    made = make_submission(tmp_path / "submission", data, hashes=hashes)
    before = score(made, data).score
    assert before["not_covered"] == []
    grow()
    after = score(made, data).score
    assert after["not_covered"] == missing
    assert after | {"not_covered": []} == before


def test_masks_of_what_it_covers_are_still_needed_and_others_are_not_taken(tmp_path):
    data, grow = grown(tmp_path / "bench", configs={**LOC, **ADDED})
    made = make_submission(tmp_path / "submission", data, hashes=True)
    grow()
    (made / "predictions/loc/a/loc-bim-1").mkdir()
    (made / FIRST).rename(made / FIRST.replace("pgd", "bim"))
    rehash(made)
    with pytest.raises(InvalidSubmission) as told:
        examine(made, data)
    assert told.value.problems.counts == {"AF003": 1, "AF004": 1}


def refusal(made, data):
    with pytest.raises(InvalidSubmission) as told:
        examine(made, data)
    return told.value.problems


def test_a_config_that_holds_other_images_is_named(tmp_path):
    data, grow = grown(tmp_path / "bench", configs={**LOC, **ADDED})
    made = make_submission(tmp_path / "submission", data, hashes=True)
    parts = manifest_of(made)["configs_sha256"]
    grow()
    change(made, configs_sha256={"loc-pgd-1": {"a": "0" * 64}})
    problems = refusal(made, data)
    assert problems.counts == {"AF002": 1}
    assert (
        "config 'loc-pgd-1' holds other images of source 'a' than this was made from" in problems.lines()[1]
    )
    change(made, configs_sha256={"loc-pgd-1": {**parts["loc-pgd-1"], "c": "0" * 64}})
    assert "has no source 'c'" in refusal(made, data).lines()[1]


def test_a_submission_of_another_benchmark_without_hashes_is_told_what_it_does_not_cover(tmp_path):
    data, grow = grown(tmp_path / "bench", configs={**LOC, **ADDED})
    made = make_submission(tmp_path / "submission", data)
    grow()
    change(made, dataset={"manifest_sha256": "0" * 64, "version": "0" * 12})
    problems = refusal(made, data)
    assert problems.counts["AF002"] == 1
    assert "configs it does not cover: loc-bim-1; it records no configs_sha256" in problems.lines()[1]


def test_hashes_must_be_of_the_configs_and_originals_belong_to_all(tmp_path):
    data, grow = grown(tmp_path / "bench", configs={**LOC, **ADDED})
    made = make_submission(tmp_path / "submission", data, hashes=True)
    parts = manifest_of(made)["configs_sha256"]
    grow()
    manifest = manifest_of(made)
    for path in (made / "predictions/loc/a/clean").iterdir():
        path.unlink()
    manifest["configs"].remove("clean")
    (made / "manifest.json").write_text(json.dumps(manifest))
    rehash(made)
    assert "configs_sha256 and configs name different configs" in refusal(made, data).lines()[1]
    del parts["clean"]
    (made / "manifest.json").write_text(json.dumps({**manifest_of(made), "configs_sha256": parts}))
    assert "covers no originals" in refusal(made, data).lines()[1]


def test_leaving_out_a_config_of_the_benchmark_it_was_made_for_is_incomplete(tmp_path):
    data, _ = grown(tmp_path / "bench")
    made = make_submission(tmp_path / "submission", data, hashes=True)
    for path in (made / "predictions/loc/a/loc-cw-50").iterdir():
        path.unlink()
    manifest = manifest_of(made)
    manifest["configs"].remove("loc-cw-50")
    del manifest["configs_sha256"]["loc-cw-50"]
    (made / "manifest.json").write_text(json.dumps(manifest))
    rehash(made)
    assert refusal(made, data).counts == {"AF004": 3}


def test_an_earlier_state_is_made_anew_only_from_what_has_not_changed(tmp_path):
    data, grow = grown(tmp_path / "bench", configs={**CONFIGS, **ADDED}, sources=("a", "b"))
    then, was = sha256_file(data / "MANIFEST.json"), open_benchmark(data)
    grow()
    names = {"configs": ["clean", *LOC], "sources": ["a"]}
    found = earlier_parts(open_benchmark(data), then, **names)
    assert found is not None and set(found) == set(was.configs)
    path = data / "manifests/loc-pgd-1.json"
    path.write_text(path.read_text().replace('"config_hash": "loc-pgd-1"', '"config_hash": "other"'))
    assert earlier_parts(open_benchmark(data), then, **names) is None


@pytest.fixture
def scores(tmp_path):
    """Two scores from before a benchmark grew, one of them made anew for it, and one from after."""
    data, grow = grown(tmp_path / "bench", configs={**LOC, **ADDED})
    shifted = lambda by: lambda source, one, config: np.roll(truth_of(source, one), by, axis=1)  # noqa: E731
    folders = {}
    for name, by in (("first", 3), ("second", 4)):
        folders[name] = make_submission(
            tmp_path / name, data, mask=shifted(by), submission_id=name, hashes=True
        )
        score(folders[name], data, out=tmp_path / "scores" / name)
    grow()
    score(folders["first"], data, out=tmp_path / "scores-now" / "first")
    late = make_submission(tmp_path / "late", data, mask=defended, submission_id="late", hashes=True)
    score(late, data, out=tmp_path / "scores" / "late")
    return {name: read_score(tmp_path / "scores" / name) for name in ("first", "second", "late")} | {
        "now": read_score(tmp_path / "scores-now" / "first")
    }


def test_a_board_ranks_submissions_of_the_same_configs_whenever_they_were_scored(scores):
    (board,) = build_boards([scores["now"], scores["second"], scores["late"]])["boards"]
    newer, older = board["tables"]
    assert [row["submission_id"] for row in newer["ranked"]] == ["late"] and newer["differs"] == ""
    assert {row["submission_id"] for row in older["ranked"]} == {"first", "second"}
    assert older["differs"] == "only the table above covers loc-bim-1 on a"
    assert older["version"] == scores["first"].record["dataset_version"] != newer["version"]


def test_scores_of_other_configs_are_not_compared_and_the_difference_is_named(scores):
    assert compare(scores["now"], scores["second"], draws=50)
    with pytest.raises(UsageError, match=r"only the second covers loc-bim-1 on a.*`afbench predict` onto"):
        compare(scores["first"], scores["late"])


def test_authentic_images_are_optional_on_a_board_and_in_a_comparison(tmp_path):
    data = make_benchmark(tmp_path / "bench", sources=("a",), configs=LOC, authentic=True)
    made = make_submission(tmp_path / "without", data, submission_id="without", hashes=True)
    score(made, data, out=tmp_path / "scores/without")
    other = make_submission(tmp_path / "with", data, submission_id="with", mask=lambda *of: truth_of(*of[:2]))
    for name in ("real-0", "real-1"):
        path = other / f"predictions/loc/a/authentic/{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes((other / FIRST).read_bytes())
    change(other, configs=[*manifest_of(other)["configs"], "authentic"])
    rehash(other)
    score(other, data, out=tmp_path / "scores/with")
    both = [read_score(tmp_path / "scores" / name) for name in ("without", "with")]
    (table,) = build_boards(both)["boards"][0]["tables"]
    assert len(table["ranked"]) == 2 and compare(*both, draws=50)
