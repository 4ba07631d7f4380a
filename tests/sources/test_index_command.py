"""``afbench index``: on every imitated release exactly what was planted, and nothing else."""

import json
import os
import shlex
from functools import partial

import pytest
from jsonschema import Draft202012Validator
from releases import (
    CASIA_V1_MASKS,
    build_casia_v1,
    build_casia_v1plus,
    build_casia_v2,
    build_columbia,
    build_imd20,
    build_misd,
    half_mask,
    photograph,
    put,
)
from releases_more import (
    build_autosplice,
    build_cocoglide,
    build_coverage,
    build_dso1,
    build_korus,
    build_nist16,
)

from afbench.resources import resource_path
from afbench.sources.sample_names import sample_id

RELEASES = {
    "columbia": build_columbia,
    "columbia nested": partial(build_columbia, nested=True),
    "casia_v1": build_casia_v1,
    "casia_v1 renamed": partial(build_casia_v1, tampered="Tp/{sub}", masks=CASIA_V1_MASKS[1], renamed=True),
    "casia_v1 flat masks": partial(build_casia_v1, tampered="TP/{sub}", masks=CASIA_V1_MASKS[2]),
    "casia_v1plus": build_casia_v1plus,
    "casia_v2": build_casia_v2,
    "casia_v2 other masks": partial(build_casia_v2, masks="Gt"),
    "imd20": build_imd20,
    "misd": build_misd,
    "coverage": build_coverage,
    "nist16": build_nist16,
    "dso1": build_dso1,
    "korus": build_korus,
    "cocoglide": partial(build_cocoglide, as_id=sample_id),
    "autosplice": build_autosplice,
}


@pytest.fixture(autouse=True)
def no_cache_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AFBENCH_DATA", raising=False)


@pytest.fixture
def photographs(tmp_path):
    """Two pairs, an image without a mask and a copy, in a folder called as in the help's example."""
    for seed, name in enumerate("abc"):
        put(tmp_path, f"photographs/images/{name}.png", photograph(seed))
        put(tmp_path, f"photographs/masks/{name}_gt.png", half_mask())
    put(tmp_path, "photographs/images/d.png", photograph(0))
    put(tmp_path, "photographs/masks/d.png", half_mask())
    put(tmp_path, "photographs/images/e.png", photograph(9))
    (tmp_path / "photographs" / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return tmp_path / "photographs"


def rows_of(ran):
    return json.loads(ran.out)["samples"]


@pytest.mark.parametrize("release", RELEASES)
def test_exactly_what_was_planted_is_included_and_excluded(afbench, tmp_path, release):
    source = release.split()[0]
    root = tmp_path / "release"
    root.mkdir()
    planted = RELEASES[release](root)
    ran = afbench("index", source, "--root", root, "--json", "--authentic")
    assert ran.code == 0, ran.err
    found = rows_of(ran)
    assert [row["id"] for row in found] == sorted({row["id"] for row in found})
    used = {label: {row["id"] for row in found if row["status"] == "included" and row["label"] == label}
            for label in ("forged", "authentic")}  # fmt: skip
    assert used == {"forged": {*planted.included}, "authentic": {*planted.authentic}}
    excluded = {row["id"]: row["reason"] for row in found if row["status"] == "excluded"}
    assert excluded == planted.excluded | planted.authentic_excluded
    forged = {row["id"] for row in found if row["label"] == "forged"}
    plain = afbench("index", source, "--root", root)
    assert plain.code == 0 and f"included  {len(planted.included)} forged\n" in plain.out
    told = {reason: [name for name in sorted(excluded) if excluded[name] == reason and name in forged]
            for reason in {excluded[name] for name in forged & excluded.keys()}}  # fmt: skip
    assert f"excluded  {sum(map(len, told.values()))}\n" in plain.out
    for reason, names in told.items():
        line = next(line for line in plain.out.splitlines() if line.startswith(f"  {reason} "))
        assert line.split()[1] == str(len(names)) and ", ".join(names[:3]) in line
    assert "afbench: warning: " in plain.err and f"published release of {source} has" in plain.err


def test_the_example_of_the_help_runs_and_prints_what_its_schema_says(afbench, photographs):
    command = afbench("index", "--help").out.rpartition("Example: ")[2]
    ran = afbench(*shlex.split(command)[1:])
    assert ran.code == 0, ran.err
    value = json.loads(ran.out)
    Draft202012Validator(
        json.loads(resource_path("manifests/schema/index.schema.json").read_text())
    ).validate(value)
    assert value["source"] == "folder" and value["root"] == str(photographs)
    assert value["summary"] == {
        "included": 2,
        "authentic": 0,
        "excluded": {"duplicate_content": 1, "missing_mask": 1, "unreadable": 1},
        "paired": 4,
        "expected": None,
        "mask_shares": {"min": 0.25, "median": 0.25, "max": 0.25, "above_50": 0, "above_95": 0},
    }
    assert {row["id"]: row["reason"] for row in value["samples"]} == {
        **{"a": "", "b": "unreadable", "c": "", "d": "duplicate_content", "e": "missing_mask"},
    }
    assert value["samples"][0]["mask"] == "masks/a_gt.png" and value["samples"][4]["mask"] is None


def test_the_table_counts_and_names_and_stderr_has_the_progress(afbench, photographs):
    ran = afbench("index", "folder", "--root", photographs)
    lines = [line.split() for line in ran.out.splitlines()]
    assert lines[0] == ["source", "folder"] and lines[2] == ["included", "2", "forged"]
    assert lines[4:7] == [
        *(["duplicate_content", "1", "d"], ["missing_mask", "1", "e"], ["unreadable", "1", "b"]),
    ]
    assert [line[0] for line in lines[7:]] == ["masks", "sha256"]
    assert "folder: 100%" in ran.err and "5/5" in ran.err and "warning" not in ran.err


def test_what_was_written_is_what_another_run_reads(afbench, photographs, tmp_path):
    ran = afbench("index", "folder", "--root", photographs, "--out", "index.json", "--json")
    assert (tmp_path / "index.json").read_text() == ran.out
    plan = ("--localizer", "reference", "--attack", "fgsm")
    counted = afbench("plan", *plan, "--source", "folder:index.json")
    assert counted.code == 0 and "folder (2 expected)" in counted.out
    assert afbench("index", "folder", "--root", photographs, "--json").out == ran.out


def test_a_count_that_must_hold_is_enforced_after_the_table(afbench, photographs):
    arguments = ("index", "folder", "--root", photographs, "--expect-count")
    assert afbench(*arguments, "2").code == 0
    ran = afbench(*arguments, "3")
    assert ran.code == 1 and ran.out.startswith("source    folder\n")
    assert "folder: 2 forged samples are included, expected 3 (--expect-count)" in ran.err


def test_options_reach_the_index(afbench, tmp_path):
    put(tmp_path, "mine/images/a.png", photograph(1))
    put(tmp_path, "mine/masks/a.png", half_mask((96, 64)))
    arguments = ("index", "folder", "--root", "mine", "--json")
    (row,) = rows_of(afbench(*arguments))
    assert row["reason"] == "size_mismatch"
    ran = afbench(*arguments, "--on-mismatch", "resize-nearest", "--invert-masks", "--workers", "1", "--full")
    (row,) = rows_of(ran)
    assert row["resized"] and row["mask_fraction"] == 0.75
    assert json.loads(ran.out)["options"] == {
        **{"on_mismatch": "resize-nearest", "invert": True, "authentic": False},
    }


def test_a_source_in_afbench_data_needs_no_root(afbench, tmp_path, monkeypatch):
    build_columbia(tmp_path / "data" / "Columbia")
    monkeypatch.setenv("AFBENCH_DATA", str(tmp_path / "data"))
    ran = afbench("index", "columbia")
    assert ran.code == 0 and "included  3 forged" in ran.out


def test_the_table_shows_what_a_plan_pins_and_the_counts_of_release_and_paper(afbench, tmp_path):
    build_columbia(tmp_path / "columbia")
    plain = afbench("index", "columbia", "--root", "columbia")
    assert "the published release of columbia has 180 (the ANSM paper used 160)" in plain.err
    assert "authentic" not in plain.err
    ran = afbench("index", "columbia", "--root", "columbia", "--authentic")
    assert ran.out.splitlines()[-1] == plain.out.splitlines()[-1]
    assert "2 authentic images were found, the published release of columbia has 183" in ran.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("casia",), "source 'casia' is unknown; did you mean casia_v1 or casia_v2"),
        (("folder:photographs",), "give the root as --root photographs"),
        (("demo",), "source 'demo' comes with afbench and needs no index"),
        (("folder",), "source 'folder' needs its root"),
        (("casia_v1",), "source 'casia_v1' is read from your own copy"),
        (("casia_v1", "--root", "photographs"), "source casia_v1: nothing of it in "),
        (("casia_v1", "--root", "nowhere"), "is no folder; expected "),
        (("folder", "--root", "photographs/images/a.png"), "is a file, no folder; expected images/"),
        (("folder", "--root", "photographs/images"), "found 'a.png', 'b.png', 'c.png', 'd.png', 'e.png'"),
        (("folder", "--root", "photographs", "--out", "index.txt"), "--out must be a .json file"),
        (("folder", "--root", "photographs", "--out", "none/index.json"), "in a folder that exists"),
        (("folder", "--root", "photographs", "--workers", "0"), "--workers"),
        (("folder", "--root", "photographs", "--expect-count", "-1"), "--expect-count"),
        (("folder", "--root", "photographs", "--on-mismatch", "crop"), "'crop' is not one of"),
        ((), "Missing argument 'SOURCE'"),
    ],
)
def test_what_cannot_be_indexed_is_one_line(afbench, tmp_path, photographs, arguments, told):
    before = sorted(tmp_path.rglob("*"))
    ran = afbench("index", *arguments)
    assert ran.code == 2 and ran.out == "" and told in ran.err and len(ran.err.splitlines()) == 1, ran.err
    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_are_no_unicode_are_printed(afbench, tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for folder, picture in (("images", photograph(1)), ("masks", half_mask())):
        put(tmp_path, f"{name}/{folder}/x.png", picture).rename(tmp_path / name / folder / f"{name}.png")
    for options in ((), ("--json",)):
        ran = afbench("index", "folder", "--root", name, *options)
        assert ran.code == 0 and (ran.out.encode() or True), ran.err
    assert rows_of(ran)[0]["image"] == f"images/{name}.png"


def test_ctrl_c_is_one_line_and_says_that_nothing_was_written(afbench, photographs, tmp_path, monkeypatch):
    from afbench.sources import check

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "read_entry", stop)
    ran = afbench("index", "folder", "--root", photographs, "--out", "index.json")
    assert (
        ran.code == 3
        and ran.out == ""
        and "error: stopped; nothing was written" in ran.err
        and "is kept" in ran.err
    )
    assert not (tmp_path / "index.json").exists() and not (tmp_path / "cache").exists()
