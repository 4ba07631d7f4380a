"""A run that is stopped anywhere goes on where it stopped and ends with the bytes of one that was not."""

import errno
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afbench.core import AfbenchError, ShardFormat, Stopped
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import TOP, WORK, read_json
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

SETTINGS = (
    *expand_attack("fgsm", phi=["1/255", "2/255"]),
    *expand_attack("pgd", phi=["1/255", "2/255"], params={"steps": 2}),
    *expand_attack("cw", steps=[2, 3]),
)
FEW = SETTINGS[1:3]
both_formats = pytest.mark.parametrize("shard_format", ["parquet", "hdf5"])
every_place = range(1, 1000)
places_of_both_formats = pytest.mark.parametrize(
    "shard_format, places",
    [
        # every seventh place, taken in turns: what is written differs, the order of writing does not
        ("parquet", every_place[::14]),
        ("hdf5", every_place[7::14]),
        pytest.param("parquet", every_place, marks=pytest.mark.slow),
        pytest.param("hdf5", every_place, marks=pytest.mark.slow),
    ],
    ids=["parquet", "hdf5", "all of parquet", "all of hdf5"],
)
"""The number of the call at which a run is stopped, or its disk is full."""
_FEW_TREES: dict[ShardFormat, dict[str, bytes]] = {}


@pytest.fixture(autouse=True)
def _same_software(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit made while the tests run must not look like other bytes."""
    monkeypatch.setattr("afbench.workflows.generation.generate.software", dict)


@pytest.fixture(autouse=True)
def _no_index_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commits, which may fail in silence, are not those that are counted here."""
    monkeypatch.setattr("afbench.sources.index.cache_path", lambda *arguments: None)


@pytest.fixture
def shard_format() -> ShardFormat:
    """The format of the shards, where a test is not of both."""
    return "parquet"


@pytest.fixture
def run(photographs: Path, shard_format: ShardFormat) -> Callable[..., Any]:
    """Generate some settings in a folder; ``sources`` are folder and synthetic or one of them."""

    def run(out: Path, settings: Any = SETTINGS, sources: str = "folder") -> Any:
        specs = tuple(
            SourceSpec(one, str(photographs) if one == "folder" else None) for one in sources.split()
        )
        plan = RunPlan("test", (Block(("reference",), specs, tuple(settings)),), limit=3)
        return generate(plan, out, Options(checkpoint="random", shard_size=2, shard_format=shard_format))

    return run


@pytest.fixture
def few_tree(run: Any, tmp_path: Path, shard_format: ShardFormat) -> dict[str, bytes]:
    """The files of a run of ``FEW`` that nothing stopped; made once for each format."""
    if shard_format not in _FEW_TREES:
        run(tmp_path / "whole", FEW)
        _FEW_TREES[shard_format] = _tree(tmp_path / "whole")
    return _FEW_TREES[shard_format]


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _stop_at(number: int, real: Callable[..., Any], error: BaseException, *, after: bool = False) -> Any:
    """``real``, except that call ``number`` (from 1) raises, before or after its work."""
    calls = iter(range(1, 1_000_000))

    def stopping(*arguments: Any, **named: Any) -> Any:
        due = next(calls) == number
        if due and not after:
            raise error
        result = real(*arguments, **named)
        if due:
            raise error
        return result

    return stopping


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
@places_of_both_formats
def test_an_interrupt_at_any_gradient_loses_at_most_its_own_shard_and_says_how_much(
    run: Any, tmp_path: Path, places: range, on_gradients: Callable[..., None]
) -> None:
    run(tmp_path / "whole")
    expected, taken = _tree(tmp_path / "whole"), list[int]()
    on_gradients(taken.append)
    whole = run(tmp_path / "counted").gradients
    files = len(list((tmp_path / "counted").glob("data/*/*-of-*.*")))
    assert len(taken) > 14  # each format is stopped at some of them
    for number in (place for place in places if place <= len(taken)):
        out = tmp_path / str(number)
        on_gradients(_stop_at(number, lambda done: None, KeyboardInterrupt()))
        with pytest.raises(Stopped) as stopped:
            run(out)
        assert not (out / TOP).exists()
        kept = sum(read_json(path)["rows"] > 0 for path in (out / WORK).glob("*/*-[0-9]*.json"))
        told = re.match(
            r"([0-9]+) of ([0-9]+) shards are committed and kept, ([0-9]+) gradients of", str(stopped.value)
        )
        assert told and (int(told[1]), int(told[2])) == (kept, files)
        lost = int(told[3])
        on_gradients(lambda images: None)
        # a launch that was interrupted is not counted where the interrupt hit before its count
        assert sum(taken[: number - 1]) - lost <= whole - run(out).gradients <= sum(taken[:number]) - lost
        assert lost <= 8
        assert _tree(out) == expected, number


@pytest.mark.reliability("R3")
@pytest.mark.parametrize("call", ["replace", "fsync"])
@places_of_both_formats
def test_a_full_disk_at_any_write_is_one_error_and_no_half_file(
    run: Any,
    few_tree: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    places: range,
) -> None:
    for number in places:
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            patch.setattr(os, call, _stop_at(number, getattr(os, call), error))
            try:
                run(out, FEW)
                break
            except AfbenchError as failed:
                assert "No space left" in str(failed) and failed.exit_code == 1
        assert not list(out.rglob("*.tmp.*")) and not (out / "log" / "owner").exists()
        run(out, FEW)
        assert _tree(out) == few_tree, number
    assert number > 20


@pytest.mark.reliability("R1")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@places_of_both_formats
def test_a_stop_at_any_commit_leaves_what_a_resume_completes(
    run: Any,
    few_tree: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: bool,
    places: range,
) -> None:
    for number in places:
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", _stop_at(number, os.replace, KeyboardInterrupt(), after=after))
            try:
                run(out, FEW)
                break
            except KeyboardInterrupt:
                assert not list(out.rglob("*.tmp.*"))
        run(out, FEW)
        assert _tree(out) == few_tree, number
    assert number > 20


@pytest.mark.reliability("R1")
@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_stop_while_records_are_dropped_is_cleaned_up_by_the_next_run(
    run: Any,
    few_tree: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    after: bool,
) -> None:
    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", _stop_at(number, shutil.rmtree, KeyboardInterrupt(), after=after))
        with pytest.raises(KeyboardInterrupt):
            run(out, FEW)
    for record in sorted(out.glob(f"{WORK}/*/*-00000.json")):
        record.unlink()
    assert run(out, FEW).gradients == 0
    assert _tree(out) == few_tree and verify(out) == []


@pytest.mark.reliability("R1")
@both_formats
def test_shards_and_records_that_do_not_fit_are_done_again(
    run: Any, tmp_path: Path, on_gradients: Callable[..., None]
) -> None:
    run(tmp_path / "whole")
    out = tmp_path / "out"
    on_gradients(_stop_at(12, lambda done: None, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(out)
    clean, lost, cut, unrecorded, *_ = sorted(out.glob("data/*/folder-00000-of-*.*"))
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    (out / WORK / unrecorded.parent.name / "folder-00000.json").unlink()
    for place in (out / TOP, clean, out / WORK / "clean" / "folder-00000.json", out / "README.md"):
        place.with_name(place.name + ".tmp.elsewhere.1").write_bytes(b"orphan")
    run(out)
    assert _tree(out) == _tree(tmp_path / "whole")


@pytest.mark.reliability("R1")
def test_another_plan_finished_in_between_costs_an_unfinished_one_nothing(
    run: Any, tmp_path: Path, on_gradients: Callable[..., None]
) -> None:
    both, late = "folder synthetic", tmp_path / "late"
    for settings in (SETTINGS[:1], SETTINGS[1:2]):
        run(tmp_path / "whole", settings, sources=both)
    # in the second shard of the second source
    on_gradients(_stop_at(5, lambda done: None, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(late, SETTINGS[:1], sources=both)
    run(late, SETTINGS[1:2])
    assert ["not finished" in problem.message for problem in verify(late)] == [True]
    assert run(late, SETTINGS[:1], sources=both).gradients == 1
    run(late, SETTINGS[1:2], sources=both)
    assert _tree(late) == _tree(tmp_path / "whole") and verify(late) == []
