"""BagIt: what is written is a bag to the reference validator, the same everywhere, and stale once anything changes."""

import hashlib
import os
import shutil
from pathlib import Path

import bagit
import pytest

from afbench.core import AfbenchError, UsageError
from afbench.storage.bagit import BAG_FILES, write_bag
from afbench.storage.derived import DERIVED_FILES, derived_files, stale_derived, write_derived
from afbench.storage.verify import verify


def test_a_bag_is_valid_and_no_file_moves(folder: Path) -> None:
    before = {path.relative_to(folder) for path in folder.rglob("*")}
    assert sorted(write_bag(folder)) == sorted(BAG_FILES)
    bag = bagit.Bag(str(folder))
    assert bag.validate() and bag.version == "1.0"
    shards = {path.relative_to(folder).as_posix() for path in (folder / "data").rglob("*.parquet")}
    assert set(bag.payload_entries()) == shards and len(shards) == 6
    size = sum((folder / path).stat().st_size for path in shards)
    assert bag.info["Payload-Oxum"] == f"{size}.6"
    assert {path.relative_to(folder) for path in folder.rglob("*")} - before == {
        Path(name) for name in BAG_FILES
    }


def test_every_listed_file_and_the_list_itself_is_a_tag_file(folder: Path) -> None:
    write_derived(folder)
    tags = (folder / "tagmanifest-sha256.txt").read_text().splitlines()
    found = dict(reversed(line.split("  ")) for line in tags)  # type: ignore[misc]
    assert {"MANIFEST.json", "README.md", "LICENSE.md", "croissant.json", "manifests/clean.json"} <= set(
        found
    )
    for path, sha256 in found.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == sha256


@pytest.mark.parametrize(
    "path", ["data/clean/synthetic-00000-of-00002.parquet", "README.md", "MANIFEST.json"]
)
def test_a_changed_file_makes_a_bag_invalid(folder: Path, path: str) -> None:
    write_bag(folder)
    data = bytearray((folder / path).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / path).write_bytes(data)
    assert not bagit.Bag(str(folder)).is_valid()


def test_the_same_benchmark_gives_the_same_bytes_whenever_and_wherever(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "x"))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
    write_derived(folder)
    write_derived(other)
    for name in DERIVED_FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes() == derived_files(other)[name]
    times = [(folder / name).stat().st_mtime_ns for name in DERIVED_FILES]
    write_derived(folder)
    assert [(folder / name).stat().st_mtime_ns for name in DERIVED_FILES] == times


@pytest.mark.parametrize("name", DERIVED_FILES)
def test_derived_files_stay_inside_the_closed_world(folder: Path, name: str) -> None:
    write_derived(folder)
    (folder / ".gitattributes").write_text("what the Hub adds")
    assert verify(folder, level="fast") == [] and list(stale_derived(folder)) == []
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert [problem.path for problem in verify(folder, level="fast")] == [name]
    (folder / name).unlink()
    (folder / (name + "x")).write_text("")
    assert f"{name}x" in {problem.path for problem in verify(folder, level="fast")}


def test_a_bag_without_croissant_is_whole_too(folder: Path) -> None:
    write_bag(folder)
    assert verify(folder, level="fast") == []


@pytest.mark.parametrize(
    "listing",
    [
        b'{"files": {"../x": {"bytes": 1, "sha256": "%064d"}}}' % 0,
        b'{"files": {"data/x": {"bytes": "1", "sha256": "%064d"}}}' % 0,
        b'{"files": {"data/x": {"bytes": 1, "sha256": "a\\nb"}}}',
        b'{"files": {"data/x": 1}}',
        b'{"files": []}',
        b"{",
    ],
)
def test_a_damaged_list_is_one_line_and_nothing_is_written(folder: Path, listing: bytes) -> None:
    (folder / "MANIFEST.json").write_bytes(listing)
    with pytest.raises(AfbenchError) as raised:
        write_bag(folder)
    assert "\n" not in str(raised.value) and not (folder / "bagit.txt").exists()


def test_a_folder_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no benchmark"):
        write_bag(tmp_path)
