"""Parts of a plan that nothing but the folder connects: ``--shard-index`` and ``--num-shards``."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import filelock
import pytest

from afbench.core import PartialError, ShardFormat, UsageError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage import locks
from afbench.storage.manifests import TOP, WORK
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options, Part

OPTIONS = Options(checkpoint="random", shard_size=1)
SETTINGS = (*expand_attack("fgsm", phi=["1/255", "3/255"]), *expand_attack("cw", steps=[2]))
Tree = dict[str, bytes]


@pytest.fixture(scope="module", autouse=True)
def same_software() -> Any:
    """A commit made while the tests run must not look like other bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("afbench.workflows.generation.generate.software", dict)
        yield


@pytest.fixture(scope="module")
def plan(photographs: Path) -> RunPlan:
    return RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), SETTINGS),))


@pytest.fixture(scope="module")
def whole(plan: RunPlan, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The files of a run by one process."""
    out = tmp_path_factory.mktemp("whole")
    generate(plan, out, OPTIONS)
    assert verify(out) == []
    return _tree(out)


def _tree(out: Path) -> Tree:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


@pytest.fixture(scope="module")
def whole_hdf5(plan: RunPlan, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The same with HDF5 shards."""
    out = tmp_path_factory.mktemp("whole_hdf5")
    generate(plan, out, replace(OPTIONS, shard_format="hdf5"))
    return _tree(out)


@pytest.mark.reliability("R12")
@pytest.mark.parametrize("shard_format", ["parquet", "hdf5"])
def test_the_last_of_the_parts_publishes_the_bytes_of_one_process(
    plan: RunPlan, tmp_path: Path, shard_format: ShardFormat, request: pytest.FixtureRequest
) -> None:
    left, options = [], replace(OPTIONS, shard_format=shard_format)
    whole = request.getfixturevalue("whole_hdf5" if shard_format == "hdf5" else "whole")
    for index in (2, 0, 1):
        assert not (tmp_path / TOP).exists()
        done = generate(plan, tmp_path, options, part=Part(index, 3))
        left.append((done.shards_written, done.shards_left))
    assert left == [(4, 2), (4, 1), (4, 0)]
    assert _tree(tmp_path) == whole
    again = generate(plan, tmp_path, OPTIONS, part=Part(0, 3))
    assert (again.shards_written, again.shards_left) == (0, 0) and _tree(tmp_path) == whole


def test_a_part_that_asks_for_another_format_than_the_others_is_refused(
    plan: RunPlan, tmp_path: Path
) -> None:
    generate(plan, tmp_path, replace(OPTIONS, shard_format="hdf5"), part=Part(0, 2))
    with pytest.raises(UsageError, match="has hdf5 shards, and a folder has one format"):
        generate(plan, tmp_path, replace(OPTIONS, shard_format="parquet"), part=Part(1, 2))


def test_more_parts_than_shards_leave_some_nothing_to_do(plan: RunPlan, whole: Tree, tmp_path: Path) -> None:
    left = [generate(plan, tmp_path, OPTIONS, part=Part(index, 5)).shards_left for index in (4, 0, 1, 3)]
    assert left == [3, 2, 1, 1]
    assert generate(plan, tmp_path, OPTIONS, part=Part(2, 5)).shards_left == 0
    assert _tree(tmp_path) == whole


def test_a_source_that_is_complete_is_not_published_before_the_others(
    photographs: Path, tmp_path: Path
) -> None:
    sources = (SourceSpec("folder", str(photographs)), SourceSpec("synthetic"))
    plan = RunPlan("two", (Block(("reference",), sources, SETTINGS[:1]),), limit=1)
    assert generate(plan, tmp_path / "parts", OPTIONS, part=Part(0, 2)).shards_left == 1
    assert not (tmp_path / "parts" / TOP).exists()
    assert generate(plan, tmp_path / "parts", OPTIONS, part=Part(1, 2)).shards_left == 0
    generate(plan, tmp_path / "one", OPTIONS)
    assert _tree(tmp_path / "parts") == _tree(tmp_path / "one")


def test_a_run_without_parts_makes_those_that_are_missing(plan: RunPlan, whole: Tree, tmp_path: Path) -> None:
    generate(plan, tmp_path, OPTIONS, part=Part(1, 2))
    assert generate(plan, tmp_path, OPTIONS).shards_written == 8
    assert _tree(tmp_path) == whole


@pytest.mark.reliability("R10")
@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_parts_need_no_locks_at_all(
    plan: RunPlan, whole: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    for index in (0, 1):
        generate(plan, tmp_path, OPTIONS, part=Part(index, 2))
    assert _tree(tmp_path) == whole


@pytest.mark.reliability("R10")
def test_a_part_takes_nobody_on_another_machine_for_dead(
    plan: RunPlan, whole: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def there(call: Callable[[], Any]) -> Any:
        """As another machine whose locks do not reach here."""
        with monkeypatch.context() as patch:
            told = os.uname_result(("Linux", "elsewhere", *os.uname()[2:]))
            patch.setattr(locks.os, "uname", lambda: told)
            return call()

    generate(plan, tmp_path, OPTIONS, part=Part(0, 2))
    writing = tmp_path / "data" / "reference-fgsm-1" / "folder-00001-of-00003.parquet.tmp.elsewhere.1"
    writing.write_bytes(b"half of it")
    at_work = tmp_path / "log" / "at-work.elsewhere.1"
    for path in (at_work, at_work.with_name(at_work.name + ".lock")):
        path.write_text("some plan\nprocess 1 on elsewhere\n")
    generate(plan, tmp_path, OPTIONS, part=Part(0, 2))
    assert writing.exists() and at_work.exists()
    there(lambda: generate(plan, tmp_path, OPTIONS, part=Part(1, 2)))
    assert _tree(tmp_path) == whole and not at_work.exists()


@pytest.mark.reliability("R10")
def test_a_part_waits_for_nobody_but_refuses_a_folder_where_another_plan_is_at_work(
    plan: RunPlan, tmp_path: Path
) -> None:
    generate(plan, tmp_path, OPTIONS, part=Part(0, 2))
    place = tmp_path / "log" / "at-work.elsewhere.1"
    place.write_text("another plan\nprocess 1 on elsewhere\n")
    held = filelock.FileLock(place.with_name(place.name + ".lock"))
    with held, pytest.raises(PartialError, match="is being written by process 1 on elsewhere"):
        generate(plan, tmp_path, OPTIONS, part=Part(1, 2))


@pytest.mark.reliability("R10")
@pytest.mark.parametrize("when", ["before it reads the records", "while it reads them", "after that"])
def test_two_parts_that_publish_at_once_without_locks_agree(
    plan: RunPlan, whole: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """One publishes as a whole, records removed, at the worst moments of the other."""
    from afbench.workflows.generation import finalise as finalising
    from afbench.workflows.generation import generate as generating

    generate(plan, tmp_path, OPTIONS, part=Part(0, 2))
    finalise, complete, split = generating.finalise, finalising._complete_splits, finalising._split_manifest
    published = []

    def publish() -> None:
        if not published:
            published.append(True)
            monkeypatch.setattr(finalising, "_complete_splits", complete)
            monkeypatch.setattr(finalising, "_split_manifest", split)
            finalise(tmp_path)
            assert not (tmp_path / WORK).exists()

    def overtaken_finalise(*arguments: Any, **more: Any) -> Any:
        publish()
        return finalise(*arguments, **more)

    def overtaken_complete(*arguments: Any) -> Any:
        publish()
        return complete(*arguments)

    def overtaken_split(*arguments: Any) -> Any:
        publish()
        return split(*arguments)

    if when == "before it reads the records":
        monkeypatch.setattr(generating, "finalise", overtaken_finalise)
    elif when == "while it reads them":
        monkeypatch.setattr(finalising, "_complete_splits", overtaken_complete)
    else:
        monkeypatch.setattr(finalising, "_split_manifest", overtaken_split)
    assert generate(plan, tmp_path, OPTIONS, part=Part(1, 2)).shards_left == 0
    assert published and _tree(tmp_path) == whole
