"""Runs in processes of their own: killed, terminated, two at once, and in other surroundings."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from afbench.failpoints import SITES
from afbench.storage.verify import verify

SEED = int(os.environ.get("AFBENCH_TEST_SEED", "20"))
ARGUMENTS = (
    *("generate", "--localizer", "reference", "--checkpoint", "random", "--shard-size", "2"),
    *("--attack", "fgsm", "--attack", "pgd", "--phi", "1/255", "--param", "steps=2"),
    *("--attack", "cw", "--steps", "2", "--steps", "3"),
)
SERVER = """
import os, sys
import torch
import afbench.cli, afbench.cli.generate_command, afbench.workflows.generation.generate as workflow
import afbench.localizers.reference, afbench.sources.index
if "AFBENCH_TEST_ODD" in os.environ:  # folders listed backwards, in another century
    import time
    backwards, entries, utc = os.listdir, os.scandir, time.gmtime
    os.listdir = lambda *where: sorted(backwards(*where), reverse=True)
    class scandir(list):
        def __init__(self, *where):
            with entries(*where) as found:
                super().__init__(sorted(found, key=lambda one: one.name, reverse=True))
        def __enter__(self): return self
        def __exit__(self, *told): pass
        def __next__(self): raise StopIteration
    os.scandir = scandir
    time.time, time.gmtime = lambda: 4e9, lambda *when: utc(4e9)
workflow.software = dict  # a commit made while the tests run must not look like other bytes
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        fault, *words = line.rstrip().split("\\t")
        os.environ["AFBENCH_FAILPOINTS"] = fault
        sys.argv = ["afbench", *words]
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        try:
            afbench.cli.main()
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        os._exit(99)
    print(child, flush=True)
    sys.stdin.readline()  # until it is waited for, its id belongs to nobody else
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
HDF5 = ("--format", "hdf5")
COMMITS = 33
"""Files that a whole run of it writes, each passing every failpoint once."""
SLOWLY = "commit.fsync=*:5ms"
HELD_UP = "commit.done=15:20000ms"
"""In the middle of a shard for longer than any test needs: what is done to it then is done in time."""
Start = Callable[..., tuple[int, Callable[[], int]]]
"""Start ``afbench generate`` into a folder, with more arguments and perhaps a ``fault``: the process id, and a call that
waits for the exit code."""


@contextmanager
def _server(root: Path, **popen: Any) -> Iterator[Start]:
    """Fork runs from a process that has imported everything and computed nothing: no import to wait for."""
    popen["env"] = {**os.environ, "OMP_NUM_THREADS": "1", **popen.get("env", {})}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=-1, stdout=-1, text=True, **popen)
    assert server.stdin and server.stdout
    told = iter(server.stdout)
    assert next(told) == "ready\n"
    running: list[int] = []

    def start(out: Path, *more: str, fault: str = "") -> tuple[int, Callable[[], int]]:
        for process in running:  # left by a test that failed
            os.kill(process, signal.SIGKILL)
            wait()
        words = [*ARGUMENTS, *more, "--source", f"folder:{root}", "--out", str(out)]
        print(fault, *words, sep="\t", file=server.stdin, flush=True)
        running[:] = [int(next(told))]
        return running[0], wait

    def wait() -> int:
        running[:] = []
        print(file=server.stdin, flush=True)
        return int(next(told))

    yield start
    for process in running:
        os.kill(process, signal.SIGKILL)
        wait()
    server.stdin.close()
    server.wait(timeout=60)
    server.stdout.close()


@pytest.fixture(scope="module")
def start(photographs: Path) -> Iterator[Start]:
    with _server(photographs) as start:
        yield start


@pytest.fixture(scope="module")
def start_beside(photographs: Path) -> Iterator[Start]:
    """The same from another server, for two processes at once."""
    with _server(photographs) as start:
        yield start


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert start(out)[1]() == 0 and verify(out) == []
    return _tree(out)


@pytest.fixture(scope="module")
def whole_hdf5(start: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same with HDF5 shards."""
    out = tmp_path_factory.mktemp("whole_hdf5")
    assert start(out, *HDF5)[1]() == 0 and verify(out) == []
    return _tree(out)


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _log(out: Path) -> list[dict[str, Any]]:
    path = out / "log" / "run.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def _pause(process: int) -> None:
    """Stop a process, and wait until it has."""
    os.kill(process, signal.SIGSTOP)
    _wait_for(lambda: Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T")


def _wait_for(found: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not found():
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.reliability("R1")
@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_at_any_time_changes_no_byte_of_the_result(
    start: Start,
    whole: dict[str, bytes],
    tmp_path: Path,
    kills: int,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("ran", f"{kills} kills, seed {SEED}")
    clock = time.monotonic()
    assert start(tmp_path / "timed")[1]() == 0
    lasted = time.monotonic() - clock
    print(f"AFBENCH_TEST_SEED={SEED}")
    moments, codes = random.Random(SEED), []
    for number in range(kills):
        out = tmp_path / str(number)
        # the first is held up, so that it is killed however fast the machine has become
        process, wait = start(out, fault="" if number else HELD_UP)
        time.sleep(moments.uniform(0.05, 1.0) * lasted)
        os.kill(process, signal.SIGKILL)
        codes.append(wait())
        assert codes[-1] in (0, -signal.SIGKILL)
        assert start(out)[1]() == 0
        assert _tree(out) == whole, (SEED, number)
    assert -signal.SIGKILL in codes


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R3")
@pytest.mark.parametrize(
    ("action", "every"),
    [
        ("kill", 60),
        *(pytest.param(action, 1, marks=pytest.mark.slow) for action in ("kill", "ENOSPC", "EIO")),
    ],
)
@pytest.mark.parametrize("options", [(), HDF5], ids=["parquet", "hdf5"])
def test_a_fault_at_a_commit_leaves_what_a_resume_completes(
    start: Start,
    tmp_path: Path,
    action: str,
    every: int,
    options: tuple[str, ...],
    record_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
) -> None:
    number, whole = 0, request.getfixturevalue("whole_hdf5" if options else "whole")
    for site in SITES:
        for call in range(1 + SITES.index(site), COMMITS + 1, every):
            out = tmp_path / f"{site}-{call}"
            code = start(out, *options, fault=f"{site}={call}:{action}")[1]()
            assert code == (-signal.SIGKILL if action == "kill" else 1)
            assert action == "kill" or not list(out.rglob("*.tmp.*"))
            assert start(out, *options)[1]() == 0
            assert _tree(out) == whole, (site, call)
            number += 1
    record_property("ran", f"{number} {action}")
    assert (
        number >= len(SITES)
        and start(tmp_path / "whole", *options, fault=f"commit.done={COMMITS + 1}:{action}")[1]() == 0
    )


@pytest.mark.reliability("R10")
@pytest.mark.reliability("R12")
@pytest.mark.parametrize("repetitions", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_two_processes_of_one_plan_share_a_folder_and_its_shards(
    start: Start,
    start_beside: Start,
    whole: dict[str, bytes],
    tmp_path: Path,
    repetitions: int,
    record_property: Callable[[str, object], None],
) -> None:
    shared = 0
    for number in range(repetitions):
        out = tmp_path / str(number)
        # at first in a way that leaves work for the second however busy the machine is
        first = start(out, fault=SLOWLY if number else "commit.done=15:3000ms")
        second = start_beside(out, fault=SLOWLY)
        assert (first[1](), second[1]()) == (0, 0)
        assert _tree(out) == whole and {path.name for path in (out / "log").iterdir()} == {
            "lock",
            "run.jsonl",
        }
        groups = [one for one in _log(out) if one["event"] == "group"]
        made = [(config, one["split"], one["shard"]) for one in groups for config in one["wrote"]]
        assert len(made) == len(set(made)) == 4 * 2
        shared += len({one["process"] for one in groups}) == 2
    record_property("ran", f"{repetitions} repetitions, {shared} with work for both")
    assert shared


@pytest.mark.reliability("R10")
def test_what_a_killed_process_was_making_is_made_by_the_other(
    start: Start, start_beside: Start, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process, wait = start(tmp_path, fault=HELD_UP)
    _wait_for(lambda: list(tmp_path.glob("data/*/*.parquet")))
    _pause(process)
    other, wait_for_other = start_beside(tmp_path)
    _wait_for(lambda: any(one["process"] == other for one in _log(tmp_path) if one["event"] == "start"))
    os.kill(process, signal.SIGKILL)
    assert (wait(), wait_for_other()) == (-signal.SIGKILL, 0)
    assert _tree(tmp_path) == whole


@pytest.mark.reliability("R10")
def test_another_plan_is_refused_and_the_lock_of_a_killed_process_is_free(
    start: Start, start_beside: Start, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process, wait = start(tmp_path, fault=HELD_UP)
    _wait_for(lambda: list(tmp_path.glob("data/*/*.parquet")))
    _pause(process)
    held = _tree(tmp_path)
    assert start_beside(tmp_path, "--attack", "noise")[1]() == 3
    assert _tree(tmp_path) == held
    os.kill(process, signal.SIGKILL)
    assert wait() == -signal.SIGKILL
    assert start(tmp_path)[1]() == 0
    assert _tree(tmp_path) == whole


@pytest.mark.reliability("R1")
def test_a_terminated_run_exits_with_3_and_resumes(
    start: Start, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process, wait = start(tmp_path, fault=HELD_UP)
    _wait_for(lambda: list(tmp_path.glob("data/*/*.parquet")))
    os.kill(process, signal.SIGTERM)
    assert wait() == 3
    assert start(tmp_path)[1]() == 0
    assert _tree(tmp_path) == whole


@pytest.mark.reliability("R11")
def test_bytes_do_not_depend_on_hash_seed_time_zone_clock_locale_folder_umask_or_order_of_files(
    photographs: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    surroundings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C", "AFBENCH_TEST_ODD": "1"}
    with _server(photographs, env=surroundings, cwd=tmp_path, umask=0o077) as start:
        assert start(Path("relative") / "out")[1]() == 0
    assert _log(tmp_path / "relative" / "out")[0]["time"].startswith("2096")
    assert _tree(tmp_path / "relative" / "out") == whole
