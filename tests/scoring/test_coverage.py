"""Coverage is what was decoded against what the benchmark holds: no mask that is not one is silently left out of the score."""

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from submissions import (
    FIRST,
    SHAPE,
    defended,
    make_submission,
    manifest_of,
    pack,
    png,
    rehash,
    table,
    truth_of,
)

from afbench.scoring.problems import InvalidSubmission
from afbench.scoring.score import examine, score

CELL = "predictions/loc/a/loc-pgd-1"
OTHER_SHAPE = png(np.ones((SHAPE[1], SHAPE[0]), bool))


def worst_masks(folder, bench):
    """Paths of the attacked masks, the lowest F1 first."""
    rows = examine(folder, bench).per_image
    rows["f1"] = 2 * rows["tp"] / (2 * rows["tp"] + rows["fp"] + rows["fn"])
    attacked = rows[rows["attack"] != "clean"].sort_values("f1")
    return [f"predictions/loc/{row.source}/{row.config}/{row.sample_id}.png" for row in attacked.itertuples()]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz"])
def test_empty_folders_in_place_of_the_worst_masks_are_no_masks(bench, submission, kind):
    for path in worst_masks(submission, bench)[:5]:
        (submission / path).unlink()
        (submission / path).mkdir()
    rehash(submission)
    made = submission
    if kind != "folder":
        base, format_name = submission.with_suffix(""), {"tar.gz": "gztar"}.get(kind, kind)
        made = shutil.make_archive(str(base) + "-packed", format_name, submission)
    for partial in (False, True):
        with pytest.raises(InvalidSubmission) as told:
            score(made, bench, partial=partial)
        assert told.value.problems.counts == {"AF010": 5}
        assert "is a folder where a file belongs" in told.value.problems.lines()[1]


def test_a_folder_in_place_of_a_table_leaves_its_masks_missing(bench, submission):
    shutil.rmtree(submission / CELL)
    (submission / f"{CELL}.parquet").mkdir()
    rehash(submission)
    with pytest.raises(InvalidSubmission) as told:
        examine(submission, bench)
    assert told.value.problems.counts == {"AF010": 1, "AF004": 3}


def test_a_mask_that_vanishes_while_it_is_read_is_missing(bench, submission, monkeypatch):
    from afbench.scoring import package as archive

    listed, whole = [], archive._open_folder

    def vanishing(root):
        listed.append(root)
        if len(listed) == 3:  # to list, to read the manifest, to read the masks
            (submission / FIRST).unlink()
        return whole(root)

    monkeypatch.setattr(archive, "_open_folder", vanishing)
    with pytest.raises(InvalidSubmission) as told:
        examine(submission, bench)
    assert told.value.problems.counts == {"AF004": 1}


@dataclass(frozen=True)
class Put:
    """A member to pack: a file of ``data``, or a folder, link, hard link, pipe or device."""

    path: str
    data: bytes = b""
    kind: str = "file"
    target: str = ""


WAYS = ("leave out", "empty", "cut", "other shape", "folder", "double", "link", "hard link", "pipe", "device")
ONLY_IN_A_TAR = ("hard link", "device")


def spoiled(path, data, way):
    """What stands in place of a mask."""
    other = FIRST if path != FIRST else FIRST.replace("a-0", "a-1")
    return {
        "leave out": [],
        "empty": [Put(path)],
        "cut": [Put(path, data[:50])],
        "other shape": [Put(path, OTHER_SHAPE)],
        "folder": [Put(path, kind="folder")],
        "double": [Put(path, data), Put(path.upper(), data)],
        "link": [Put(path, kind="link", target=other)],
        "hard link": [Put(path, kind="hard link", target=other)],
        "pipe": [Put(path, kind="pipe")],
        "device": [Put(path, kind="device")],
    }[way]


def write_folder(members, target):
    for member in members:
        path = target / member.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "folder":
            path.mkdir()
        elif member.kind == "link":
            path.symlink_to(target / member.target)
        elif member.kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(member.data)
    return target


def write_zip(members, target):
    modes = {"file": 0o100644, "folder": 0o040755, "link": 0o120777, "pipe": 0o010644}
    with zipfile.ZipFile(target, "w") as archive:
        for member in members:
            info = zipfile.ZipInfo(member.path + "/" * (member.kind == "folder"))
            info.create_system, info.external_attr = 3, modes[member.kind] << 16
            archive.writestr(info, member.target.encode() or member.data)
    return target


def write_tar(members, target):
    kinds = {
        "file": tarfile.REGTYPE,
        "folder": tarfile.DIRTYPE,
        "link": tarfile.SYMTYPE,
        "hard link": tarfile.LNKTYPE,
        "pipe": tarfile.FIFOTYPE,
        "device": tarfile.CHRTYPE,
    }
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as archive:
        for member in members:
            info = tarfile.TarInfo(member.path)
            info.type, info.linkname, info.size = kinds[member.kind], member.target, len(member.data)
            archive.addfile(info, io.BytesIO(member.data))
    return target


WRITERS = {"folder": write_folder, "zip": write_zip, "tar": write_tar, "tar.gz": write_tar}


@pytest.fixture(scope="module")
def whole(bench, tmp_path_factory):
    """The masks of a valid submission by path, and its manifest."""
    folder = make_submission(tmp_path_factory.mktemp("coverage") / "whole", bench)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
    assert len(files) == 20
    return files, manifest_of(folder)


def with_hashes(members, manifest):
    """The manifest of whoever packs this, and wants it to look whole."""
    hashes = {
        member.path: hashlib.sha256(member.data).hexdigest() for member in members if member.kind == "file"
    }
    return [Put("manifest.json", json.dumps({**manifest, "files_sha256": hashes}).encode()), *members]


def check_noticed(path, bench, spoiled_masks):
    """Refused; and as a part, refused as well, or scored as a part that lacks as many masks."""
    with pytest.raises(InvalidSubmission) as told:
        examine(path, bench)
    assert told.value.problems
    if set(told.value.problems.counts) == {"AF004"}:  # nothing but missing: what --partial is for
        assert examine(path, bench, partial=True).missing == spoiled_masks


@settings(max_examples=15)
@given(data=st.data())
@pytest.mark.parametrize("kind", WRITERS)
def test_no_mask_is_left_out_emptied_doubled_linked_or_replaced_in_silence(
    bench, whole, tmp_path_factory, kind, data
):
    files, manifest = whole
    possible = [way for way in WAYS if kind.startswith("tar") or way not in ONLY_IN_A_TAR]
    ways = sorted(data.draw(st.sets(st.sampled_from(possible), min_size=1, max_size=3)))
    chosen = data.draw(
        st.dictionaries(st.sampled_from(sorted(files)), st.sampled_from(ways), min_size=1, max_size=5)
    )
    members = [
        put
        for path, content in files.items()
        for put in (spoiled(path, content, chosen[path]) if path in chosen else [Put(path, content)])
    ]
    target = tmp_path_factory.mktemp("spoiled") / f"submission.{kind}"
    check_noticed(WRITERS[kind](with_hashes(members, manifest), target), bench, len(chosen))


ROWS = {
    "leave out": lambda name, mask: [],
    "empty": lambda name, mask: [(name, b"")],
    "nothing": lambda name, mask: [(name, None)],
    "double": lambda name, mask: [(name, mask), (name, mask)],
    "other shape": lambda name, mask: [(name, OTHER_SHAPE)],
    "PNG beside it": lambda name, mask: [(name, mask)],
}


@settings(max_examples=6)
@given(data=st.data())
def test_no_row_of_a_table_is_left_out_emptied_doubled_or_replaced_in_silence(
    bench, whole, tmp_path_factory, data
):
    files, manifest = whole
    names = [f"a-{number}" for number in range(3)]
    chosen = data.draw(
        st.dictionaries(st.sampled_from(names), st.sampled_from(sorted(ROWS)), min_size=1, max_size=3)
    )
    rows = [
        row
        for name in names
        for row in (ROWS[chosen[name]] if name in chosen else ROWS["PNG beside it"])(
            name, files[f"{CELL}/{name}.png"]
        )
    ]
    beside = [f"{CELL}/{name}.png" for name, way in chosen.items() if way == "PNG beside it"]
    members = [Put(path, data) for path, data in files.items() if not path.startswith(CELL) or path in beside]
    columns = {"sample_id": [name for name, _ in rows], "mask": [mask for _, mask in rows]}
    members.append(Put(f"{CELL}.parquet", table(columns)))
    target = tmp_path_factory.mktemp("spoiled") / "submission"
    check_noticed(write_folder(with_hashes(members, manifest), target), bench, len(chosen))


def test_leaving_out_the_worst_masks_raises_no_score_that_ranks(bench, tmp_path):
    def mask(source, sample_id, config):
        return np.roll(defended(source, sample_id, config), 9 * (sample_id == "a-2"), axis=1)

    made = make_submission(tmp_path / "submission", bench, mask=mask)
    before = score(made, bench).score
    for path in worst_masks(made, bench)[:3]:
        (made / path).unlink()
    rehash(made)
    part = score(pack(made, "zip"), bench, partial=True).score
    assert part["aggregates"]["loc"]["micro"]["f1"] > before["aggregates"]["loc"]["micro"]["f1"]
    assert before["rankable"] and not part["rankable"] and part["missing"] == 3


def test_a_perfect_mask_in_place_of_another_without_its_hash_is_noticed(bench, submission):
    (submission / FIRST).write_bytes(png(truth_of("a", "a-0")))
    with pytest.raises(InvalidSubmission) as told:
        examine(submission, bench)
    assert told.value.problems.counts == {"AF014": 1}
