"""Sources under names of the user's own: two folders in one benchmark, read alike when they are read again."""

import json

import numpy as np
import pytest
import yaml
from PIL import Image
from releases import half_mask, photograph, put

from afbench.core import AfbenchError, ReadOptions, UsageError
from afbench.plans import RunPlan, SourceSpec, parse_source, plan_as_json, plan_from_json, read_plan
from afbench.storage.manifests import open_benchmark
from afbench.storage.verify import verify

ATTACK = ("--localizer", "reference", "--attack", "noise", "--phi", "1/255")


@pytest.fixture(autouse=True)
def no_cache_of_others(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AFBENCH_DATA", raising=False)


@pytest.fixture
def folders(tmp_path):
    """Folders ``one`` and ``two`` of two pairs each, with masks of 0 and 1; one name no id can spell."""
    for seed, folder in enumerate(("one", "two")):
        for number, name in enumerate(("a", "図 1")):
            put(tmp_path / folder, f"images/{name}.png", photograph(10 * seed + number))
            put(tmp_path / folder, f"masks/{name}.png", half_mask().point(lambda level: level // 255))
    return [f"{name}=folder:{tmp_path / name}" for name in ("one", "two")]


@pytest.fixture
def benchmark_command(afbench, folders):
    """The command that makes a benchmark of both, and that benchmark."""
    sources = [part for source in folders for part in ("--source", source)]
    command = ("generate", *ATTACK, *sources, "--mask-nonzero", "--terms", "one=CC BY 4.0", "--out", "out")
    ran = afbench(*command)
    assert ran.code == 0, ran.err
    return command


def splits(folder):
    return open_benchmark(folder).configs["clean"].splits


def test_two_folders_make_one_benchmark_under_their_names(afbench, benchmark_command, tmp_path):
    found = splits(tmp_path / "out")
    assert set(found) == {"one", "two"}
    assert {part.layout for part in found.values()} == {"folder"}
    assert all(part.read == {"mask_nonzero": True} for part in found.values())
    assert found["one"].terms == "CC BY 4.0" and "not known" in found["two"].terms
    again = afbench(*benchmark_command)
    assert again.code == 0 and "0 shards written" in again.out and not verify(tmp_path / "out")


def test_the_name_of_a_file_that_no_id_can_spell_stays_in_the_record(afbench, benchmark_command, tmp_path):
    (shard,) = splits(tmp_path / "out")["one"].shards
    ((sample_id, file),) = shard.files.items()
    assert file == "images/図 1.png" and sample_id.startswith("__1-")
    attacked = open_benchmark(tmp_path / "out").attacked["reference-noise-1"].splits["one"].shards[0]
    assert not attacked.files
    rows = json.loads(afbench("inspect", "out", "--sample", sample_id, "--json").out)["rows"]
    assert {row["file"] for row in rows.values()} == {"images/図 1.png"}


def test_other_options_than_the_benchmarks_own_are_refused_with_the_difference(afbench, benchmark_command):
    ran = afbench(*(part for part in benchmark_command if part != "--mask-nonzero"))
    assert ran.code == 2 and "read: {'mask_nonzero': True} -> None" in ran.err
    other = [
        *benchmark_command[: benchmark_command.index("--mask-nonzero")],
        "--mask-threshold",
        "0",
        *benchmark_command[benchmark_command.index("--terms") :],
    ]
    assert "read.mask_nonzero: True -> None" in afbench(*other).err


def test_repair_reads_a_source_as_the_record_says(afbench, benchmark_command, folders, tmp_path):
    for path in (tmp_path / "out").glob("data/clean/*.parquet"):
        path.unlink()
    sources = [part for source in folders for part in ("--source", source)]
    ran = afbench("verify", "out", "--repair", *sources)
    assert ran.code == 0 and ran.out.count("repaired: data/clean/") == 2, ran.out


def test_an_archive_without_originals_is_restored_from_named_copies(
    afbench, benchmark_command, folders, tmp_path
):
    assert afbench("export", "out", "--to", "hdf5", "--residuals-only", "--out", "arc").code == 0
    assert "--source one=folder:ROOT --source two=folder:ROOT" in (tmp_path / "arc/README.md").read_text()
    sources = [part for source in folders for part in ("--source", source)]
    ran = afbench("restore", "arc", *sources, "--out", "again")
    assert ran.code == 0, ran.err
    for name in ("one", "two"):
        assert splits(tmp_path / "again")[name].shards[0].files


def test_the_same_folder_without_options_is_recorded_as_it_always_was(afbench, tmp_path):
    for number, name in enumerate("ab"):
        put(tmp_path / "mine", f"images/{name}.png", photograph(number))
        put(tmp_path / "mine", f"masks/{name}.png", half_mask())
    assert afbench("generate", *ATTACK, "--source", f"folder:{tmp_path / 'mine'}", "--out", "out").code == 0
    (part,) = splits(tmp_path / "out").values()
    assert set(part.as_json()) == {
        *("source_sha256", "ids_sha256", "samples", "attack_at", "shard_size", "terms", "redistribution"),
        "shards",
    }
    assert "files" not in part.shards[0].as_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A B=folder:x", "must be 1 to 60 of a-z, 0-9 and _; found 'A B'"),
        ("../x=folder:x", "must be 1 to 60"),
        ("=folder:x", "must be 1 to 60"),
        ("a" * 61 + "=folder:x", "must be 1 to 60"),
        ("all=folder:x", "the name 'all' has another meaning"),
        ("demo=folder:x", "the name 'demo' has another meaning"),
        ("casia_v1=folder:x", "the name 'casia_v1' has another meaning"),
        ("mine=demo", "source 'demo' comes with afbench and keeps its name"),
        ("mine=folder", "source 'folder' needs its root"),
        ("mine=nothing:x", "source 'nothing' is unknown"),
    ],
)
def test_a_name_that_cannot_be_a_split_or_means_something_else_is_refused(text, message):
    with pytest.raises(UsageError) as refusal:
        parse_source(text)
    assert message in str(refusal.value)


def test_names_roots_and_layouts_are_told_apart():
    assert parse_source("mine=folder:/a=b:c") == SourceSpec("mine", "/a=b:c", layout="folder")
    assert parse_source("folder:/a=b") == SourceSpec("folder", "/a=b")
    assert parse_source("folder=folder:/a") == SourceSpec("folder", "/a")
    assert parse_source("old=CASIA1:/a") == SourceSpec("old", "/a", layout="casia_v1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source", "demo", "--mask-nonzero"), "--mask-nonzero: source 'demo' comes with afbench"),
        (("--source", "demo", "--terms", "x"), "--terms 'x' must say a folder or list of yours"),
        (("--source", "demo", "--terms", "demo=x"), "source 'demo' has terms of its own"),
        (("--source", "a=folder:x", "--source", "b=folder:y", "--terms", "x"), "which of a, b it is about: --terms a=TEXT"),
        (("--source", "folder:x", "--terms", "a\nb"), "--terms must be one line"),
        (("--source", "folder:x", "--terms", "folder="), "says nothing"),
        (("--source", "folder:x", "--terms", "y", "--terms", "z"), "--terms is given twice for source 'folder'"),
        (("--source", "folder:x", "--mask-nonzero", "--mask-threshold", "3"), "give one of them"),
        (("--source", "folder:x", "--source", "folder:y"), "name each: --source NAME=folder:ROOT"),
    ],
)  # fmt: skip
def test_options_about_sources_that_cannot_be_meant_are_refused_in_one_line(afbench, options, message):
    ran = afbench("generate", *ATTACK, *options, "--out", "out")
    assert ran.code == 2 and message in ran.err and len(ran.err.splitlines()) == 1, ran.err


def test_a_plan_says_the_same_of_its_sources(tmp_path, folders):
    plan = {
        "name": "mine",
        "blocks": [
            {
                "localizers": ["reference"],
                "sources": [
                    {"source": folders[0], "terms": "mine alone", "mask_threshold": 0, "ignore_alpha": True},
                    folders[1],
                ],
                "attacks": [{"attack": "fgsm"}],
            }
        ],
    }
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    found = read_plan(str(tmp_path / "plan.yaml"))
    first, second = found.blocks[0].sources
    assert first == SourceSpec(
        "one",
        str(tmp_path / "one"),
        layout="folder",
        terms="mine alone",
        read=ReadOptions(0, ignore_alpha=True),
    )
    assert second == SourceSpec("two", str(tmp_path / "two"), layout="folder")
    assert plan_from_json(json.loads(json.dumps(plan_as_json(found)))) == found and isinstance(found, RunPlan)


def test_a_plans_roots_are_given_by_its_own_names_and_layouts(afbench, tmp_path, folders):
    (tmp_path / "plan.yaml").write_text(
        "name: p\nblocks:\n- localizers: [reference]\n  sources: ['one=folder:nowhere']\n  attacks: [{attack: fgsm}]\n"
    )
    assert "one (2 expected)" in afbench("plan", "--plan", "plan.yaml", "--source", folders[0]).out
    ran = afbench("plan", "--plan", "plan.yaml", "--source", folders[0].replace("folder", "list"))
    assert ran.code == 2 and "reads source 'one' as folder; found list" in ran.err


def test_what_a_manifest_says_of_reading_is_checked():
    for value in (
        3,
        {"mask_threshold": "1"},
        {"mask_threshold": True},
        {"mask_nonzero": 1},
        {"x": 1},
        {"mask_threshold": 999},
    ):
        with pytest.raises(AfbenchError):
            ReadOptions.from_json(value)
    assert ReadOptions.from_json({"mask_threshold": 0}).as_json() == {"mask_threshold": 0}


def test_a_list_whose_stems_cross_is_used_with_a_warning_and_the_count(afbench, tmp_path):
    for number in range(4):
        put(tmp_path / "data", f"{number}.png", photograph(number))
        put(tmp_path / "data", f"gt/{number}_gt.png", half_mask(share=0.2 + number / 10))
    crossed = "0.png,gt/0_gt.png\n1.png,gt/2_gt.png\n2.png,gt/1_gt.png\n3.png,gt/3_gt.png"
    (tmp_path / "data/l.csv").write_text(crossed)
    told = "2 of 4 masks of the list are not named like their image, and 2 are named like another image of the list"
    ran = afbench("index", "list", "--root", "data")
    assert ran.code == 0 and told in ran.err and "(first: '1.png' with 'gt/2_gt.png')" in ran.err
    benchmark_command = afbench("generate", *ATTACK, "--source", "list:data", "--out", "out")
    assert benchmark_command.code == 0 and benchmark_command.err.count(told) == 1
    (tmp_path / "data/l.csv").write_text("\n".join(f"{n}.png,gt/{n}_gt.png" for n in range(4)))
    assert "warning" not in afbench("index", "list", "--root", "data").err


def test_an_index_without_a_single_sample_fails_and_says_what_would_help(afbench, folders, tmp_path):
    ran = afbench("index", "folder", "--root", "one")
    assert (
        ran.code == 1
        and "not one sample can be used (__1-fcfa2adb: empty_mask" in ran.err
        and "--mask-nonzero" in ran.err
    )
    assert afbench("index", "folder", "--root", "one", "--mask-nonzero").code == 0


def test_nearly_white_masks_are_counted_and_said_aloud(afbench, tmp_path):
    for number, share in enumerate((0.1, 0.97, 0.98)):
        put(tmp_path / "mine", f"images/{number}.png", photograph(number, (100, 10)))
        put(tmp_path / "mine", f"masks/{number}.png", half_mask((100, 10), share=share))
    ran = afbench("index", "folder", "--root", "mine")
    assert "masks     10.0% to 98.0% forged, median 97.0%; 2 above 50 %, 2 above 95 %" in ran.out
    assert "2 of 3 masks mark more than half of their image as forged, 2 of them more than 95 %" in ran.err
    ran = afbench("index", "folder", "--root", "mine", "--json")
    assert json.loads(ran.out)["summary"]["mask_shares"]["above_95"] == 2
    assert "--invert-masks" in afbench("generate", *ATTACK, "--source", "folder:mine", "--out", "out").err


def test_one_sample_of_a_reason_is_shown_with_the_option_that_helps(afbench, tmp_path):
    for number, level in enumerate((255, 1)):
        put(tmp_path / "mine", f"images/{number}.png", photograph(number))
        mask = np.where(np.asarray(half_mask()) > 0, np.uint8(level), np.uint8(0))
        put(tmp_path / "mine", f"masks/{number}.png", Image.fromarray(mask))
    ran = afbench("index", "folder", "--root", "mine")
    assert ran.code == 0 and "    1: no pixel is forged" in ran.out and "--mask-nonzero" in ran.out
