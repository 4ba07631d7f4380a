"""``afbench export``: every form holds the benchmark's pixels, reads with common tools, and comes out whole or not at all."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import bagit
import datasets
import numpy as np
import pytest
from PIL import Image

from afbench.core import PartialError, UsageError
from afbench.files import commit_json
from afbench.images import decode_stored, pixel_sha256
from afbench.storage.delivery import WORK_FOLDER
from afbench.storage.export_card import READ_HDF5
from afbench.storage.manifests import CLEAN, open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import rows_to_check, verify
from afbench.workflows.publishing import export as workflow
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.formats import FORMATS


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def exported(made, tmp_path_factory):
    """Each form once."""
    base = tmp_path_factory.mktemp("exported")
    for form in FORMATS:
        export(made.folder, base / form, form)
    return base


def rows_of(folder, config):
    return list(read_rows(folder, shard_paths(open_benchmark(folder).configs[config])))


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("form", FORMATS)
def test_the_manifest_lists_every_file_and_the_bag_is_valid(exported, form):
    folder = exported / form
    listing = json.loads((folder / "MANIFEST.json").read_text())["files"]
    found = contents(folder)
    beside = {
        "MANIFEST.json",
        "croissant.json",
        "bagit.txt",
        "bag-info.txt",
        "manifest-sha256.txt",
        "tagmanifest-sha256.txt",
        "log/delivery.json",
    }
    assert found.keys() == listing.keys() | beside
    assert {path: one["sha256"] for path, one in listing.items()} == {path: found[path] for path in listing}
    assert bagit.Bag(str(folder)).is_valid()
    assert (folder / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_benchmark_gives_the_same_bytes(made, exported, tmp_path, form, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    export(made.folder, tmp_path / "again", form)
    assert contents(tmp_path / "again") == contents(exported / form)


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_export_is_left_alone(made, exported, form):
    stamps = {path: path.stat().st_mtime_ns for path in (exported / form).rglob("*")}
    done = export(made.folder, exported / form, form)
    assert done.written_shards == 0 and done.images == 28
    left = {path: path.stat().st_mtime_ns for path in (exported / form).rglob("*")}
    assert {path for path in left if left[path] != stamps.get(path) and path.is_file()} == set()


def test_parquet_is_a_benchmark_again(made, exported, tmp_path):
    assert verify(exported / "parquet", level="deep") == []
    assert rows_of(exported / "parquet", "reference-cw-2") == rows_of(made.folder, "reference-cw-2")
    export(made.folder, tmp_path / "part", "parquet", configs=["reference-cw-2"])
    assert verify(tmp_path / "part", level="deep") == []
    assert list(open_benchmark(tmp_path / "part").configs) == [CLEAN, "reference-cw-2"]
    loaded = datasets.load_dataset(str(tmp_path / "part"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in loaded.items()} == {"folder": 5, "synthetic": 2}


def test_an_archive_holds_the_pixels_and_the_figures(made, exported):
    for config in made.configs:
        mine, theirs = rows_of(exported / "hdf5", config), rows_of(made.folder, config)
        for left, right in zip(mine, theirs, strict=True):
            assert {**left, "image": 0, "mask": 0} == {**right, "image": 0, "mask": 0}
            assert pixel_sha256(decode_stored(left["image"])) == right["image_sha256"]
            assert pixel_sha256(decode_stored(left["mask"])) == right["mask_sha256"]
    summary = open_benchmark(exported / "hdf5").configs["reference-cw-2"].splits["folder"].summary
    assert summary["n"] == 5


def test_verify_accepts_an_archive(exported):
    assert verify(exported / "hdf5", level="fast") == []
    assert verify(exported / "hdf5") == []


def test_the_card_of_an_archive_shows_code_that_reads_it(made, exported, monkeypatch):
    code = (exported / "hdf5" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) == len(READ_HDF5.splitlines()) <= 13
    monkeypatch.chdir(exported / "hdf5")
    found: dict = {}
    exec(code, found)
    (row, *_) = rows_of(made.folder, "reference-fgsm-1")
    assert found["attacked"]["sample_id"][0].decode() == row["sample_id"]
    assert np.array_equal(found["image"], decode_stored(row["image"]))
    assert np.array_equal(found["mask"], decode_stored(row["mask"]))
    assert pixel_sha256(found["original"]) == row["original_sha256"]


def test_the_documentation_shows_the_same_reader():
    text = (Path(__file__).parent.parent / "docs/storage.md").read_text()
    # there the formatter of code sets more blank lines
    assert " ".join(READ_HDF5.split("clean, attacked")[0].split()) in " ".join(text.split())


def test_an_image_folder_loads_with_its_originals_and_masks(made, exported, tmp_path):
    folder = exported / "imagefolder"
    ways = {
        "data_dir": datasets.load_dataset(
            "imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "a")
        ),
        "card": datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "b")),
    }
    expected = {
        (config, row["source"], row["sample_id"]): row
        for config in made.configs[1:]
        for row in rows_of(made.folder, config)
    }
    for loaded in ways.values():
        assert len(loaded) == len(expected) == 21
        for found in loaded:
            row = expected[found["config"], found["source"], found["sample_id"]]
            assert pixel_sha256(np.asarray(found["image"])) == row["image_sha256"]
            assert pixel_sha256(np.asarray(found["original"])) == row["original_sha256"]
            assert pixel_sha256(np.asarray(found["mask"].convert("L"))) == row["mask_sha256"]
            assert found["f1_adv"] == row["f1_adv"] and found["phi"] == row["phi"]
    lines = (folder / "table.csv").read_text().splitlines()
    assert len(lines) == 22 and lines[0].startswith('"file_name","original_file_name"')
    with Image.open(folder / "data/clean/folder/photo.3.png") as picture:
        assert picture.format == "PNG"


def test_a_web_dataset_loads_with_its_originals_and_masks(made, exported, tmp_path):
    folder = exported / "webdataset"
    files = {"folder": str(folder / "data/reference-fgsm-3/folder-*.tar")}
    ways = (
        datasets.load_dataset("webdataset", data_files=files, split="folder", cache_dir=str(tmp_path / "a")),
        datasets.load_dataset(str(folder), "reference-fgsm-3", split="folder", cache_dir=str(tmp_path / "b")),
    )
    expected = {
        row["sample_id"]: row for row in rows_of(made.folder, "reference-fgsm-3") if row["source"] == "folder"
    }
    for loaded in ways:
        assert len(loaded) == len(expected) == 5
        for found in loaded:
            row = expected[found["json"]["sample_id"]]
            assert found["__key__"] == row["sample_id"].replace(".", "~")
            assert pixel_sha256(np.asarray(found["png"])) == row["image_sha256"]
            assert pixel_sha256(np.asarray(found["original.png"])) == row["original_sha256"]
            assert pixel_sha256(np.asarray(found["mask.png"])) == row["mask_sha256"]
            assert found["json"]["f1_clean"] == row["f1_clean"]


def test_a_tar_says_nothing_of_when_and_where(exported):
    (path, *_) = sorted((exported / "webdataset/data").rglob("*.tar"))
    with tarfile.open(path) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")


def test_originals_stay_at_home_when_asked_or_forbidden(made, tmp_path, afbench):
    manifest = json.loads((made.folder / "manifests/clean.json").read_text())
    assert manifest["splits"]["folder"]["redistribution"] == "unclear"
    done = export(made.folder, tmp_path / "asked", "hdf5", with_originals=False)
    assert done.withheld == ["folder", "synthetic"]
    stored = b"".join(path.read_bytes() for path in (tmp_path / "asked").rglob("*.h5"))
    for row in rows_of(made.folder, CLEAN):
        assert row["image"] not in stored and row["mask"] not in stored
    restricted = _forbid(made.folder, tmp_path / "restricted")
    ran = afbench("export", str(restricted), "--to", "hdf5", "--out", "archive")
    told = [line for line in ran.err.splitlines() if "redistribution" in line]
    assert ran.code == 0 and told == ["folder: redistribution is forbidden; its originals are left out"]
    splits = json.loads((tmp_path / "archive/manifests/clean.json").read_text())["splits"]
    assert {name: part["archive"]["content"] for name, part in splits.items()} == {
        "folder": "none",
        "synthetic": "images",
    }
    assert "afbench restore THIS_FOLDER --source folder:ROOT" in (tmp_path / "archive/README.md").read_text()
    ran = afbench("export", str(restricted), "--to", "hdf5", "--out", "all", "--with-originals")
    assert "all holds its pixels" in ran.err
    ran = afbench("export", str(restricted), "--to", "parquet", "--out", "copy")
    assert ran.err.count("copy holds its pixels") == 1


def _forbid(folder: Path, out: Path) -> Path:
    """A copy whose source ``folder`` may not be shared."""
    export(folder, out, "parquet")
    path = out / "manifests/clean.json"
    manifest = json.loads(path.read_text())
    manifest["splits"]["folder"]["redistribution"] = "forbidden"
    commit_json(path, manifest)
    return out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "zip", "--out", "x"), "'zip' is not one of"),
        (("--to", "hdf5"), "Missing option '--out'"),
        (("--to", "hdf5", "--out", "x", "--config", "mvss-cw-1"), "config 'mvss-cw-1' is not in"),
        (("--to", "webdataset", "--out", "x", "--residuals-only"), "--residuals-only goes with --to hdf5"),
        (("--to", "hdf5", "--out", "full"), "holds something that is no benchmark"),
        (("--to", "hdf5", "--out", "file"), "is a file; give a folder"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(made, afbench, tmp_path, arguments, told):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ran = afbench("export", str(made.folder), *arguments)
    assert ran.code == 2 and told in ran.err and len(ran.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_another_export_or_a_benchmark_in_the_folder_is_left_alone(made, exported):
    before = contents(exported / "hdf5")
    for out, form in ((exported / "hdf5", "webdataset"), (exported / "parquet", "hdf5")):
        with pytest.raises(UsageError, match="holds what another command made"):
            export(made.folder, out, form)
    with pytest.raises(UsageError, match="holds what another command made"):
        export(made.folder, exported / "hdf5", "hdf5", configs=["reference-cw-2"])
    with pytest.raises(UsageError, match="is not empty"):
        export(made.folder, made.folder, "parquet")
    with pytest.raises(UsageError, match="is an archive"):
        export(exported / "hdf5", exported / "x", "parquet")
    assert contents(exported / "hdf5") == before


def test_a_damaged_shard_is_named_and_nothing_is_published(made, tmp_path):
    export(made.folder, tmp_path / "copy", "parquet")
    (path, *_) = (tmp_path / "copy/data/reference-cw-2").glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match=rf"{path.name}' is damaged: it has another sha256"):
        export(tmp_path / "copy", tmp_path / "out", "hdf5")
    assert not (tmp_path / "out/MANIFEST.json").exists()


@pytest.mark.parametrize("form", FORMATS)
def test_a_stopped_export_goes_on_and_ends_with_the_same_bytes(made, exported, tmp_path, form, monkeypatch):
    class StoppedError(Exception):
        pass

    real = workflow.deliver
    for stop in (0, 1, 5, 9):
        left = [stop]

        def some(*arguments, left=left):
            if not left[0]:
                raise StoppedError
            left[0] -= 1
            return real(*arguments)

        monkeypatch.setattr(workflow, "deliver", some)
        with pytest.raises(StoppedError):
            export(made.folder, tmp_path / "out", form)
        assert not (tmp_path / "out/MANIFEST.json").exists()
    monkeypatch.setattr(workflow, "deliver", real)
    done = export(made.folder, tmp_path / "out", form)
    assert done.written_shards == 16 - (0 + 1 + 5 + 9)
    assert contents(tmp_path / "out") == contents(exported / form)


def test_a_killed_export_goes_on_and_ends_with_the_same_bytes(made, exported, tmp_path):
    code = (
        "import sys, pathlib, os, signal\n"
        "from afbench import files\n"
        "from afbench.workflows.publishing.export import export\n"
        "count, real = [int(sys.argv[3])], os.replace\n"
        "def replace(*paths):\n"
        "    if not count[0]: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    count[0] -= 1\n"
        "    real(*paths)\n"
        "files.os.replace = replace\n"
        "export(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), 'hdf5')\n"
    )
    out = tmp_path / "out"
    for stop in (0, 4, 30):
        command = [sys.executable, "-c", code, str(made.folder), str(out), str(stop)]
        assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
        assert (out / WORK_FOLDER).is_dir()
    export(made.folder, out, "hdf5")
    assert contents(out) == contents(exported / "hdf5")


def test_a_second_process_is_told_that_the_folder_is_taken(made, tmp_path):
    child = os.fork()
    if child == 0:
        export(made.folder, tmp_path / "out", "hdf5", start=lambda images: time.sleep(60))
        os._exit(1)
    try:
        until = time.monotonic() + 30
        while not (tmp_path / "out" / WORK_FOLDER / "request.json").is_file() and time.monotonic() < until:
            time.sleep(0.02)
        with pytest.raises(PartialError, match="is being written by another process"):
            export(made.folder, tmp_path / "out", "hdf5")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert export(made.folder, tmp_path / "out", "hdf5").written_shards == 16


def test_answers_for_programs_are_json(made, afbench):
    ran = afbench("export", str(made.folder), "--to", "hdf5", "--out", "x", "--json")
    told = json.loads(ran.out)
    assert told["images"] == 28 and told["configs"] == list(made.configs) and told["withheld"] == []
    assert told["restricted"] == {"folder": "unclear"}


@pytest.mark.parametrize("form", ["imagefolder", "webdataset"])
def test_plain_pictures_are_verified_by_their_list(exported, tmp_path, form):
    folder = shutil.copytree(exported / form, tmp_path / form)
    assert verify(folder) == [] and verify(folder, level="fast") == []
    assert rows_to_check(folder) == len(json.loads((folder / "MANIFEST.json").read_text())["files"])
    picture = next(path for path in sorted(folder.rglob("data/**/*")) if path.is_file())
    picture.write_bytes(picture.read_bytes()[:-1] + b"?")
    assert [problem.path for problem in verify(folder)] == [picture.relative_to(folder).as_posix()]
    with pytest.raises(UsageError, match="no rows to check"):
        verify(folder, level="deep")
