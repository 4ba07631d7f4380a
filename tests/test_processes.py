"""Runs in processes of their own: killed, terminated, two at once, and in other surroundings."""

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

import numpy as np
import pytest
from PIL import Image

from afbench.storage.verify import verify

SEED = int(os.environ.get("AFBENCH_TEST_SEED", "20"))
ARGUMENTS = (
    *("generate", "--localizer", "reference", "--checkpoint", "random", "--shard-size", "2"),
    *("--attack", "fgsm", "--attack", "pgd", "--phi", "1/255", "--phi", "2/255", "--param", "steps=2"),
    *("--attack", "cw", "--steps", "2", "--steps", "3"),
)
SERVER = """
import os, sys
import torch
import afbench.cli, afbench.cli.generate_command, afbench.workflows.generate as workflow
import afbench.localizers.reference, afbench.sources.index
workflow.software = dict  # a commit made while the tests run must not look like other bytes
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.argv = ["afbench", *line.rstrip().split("\\t")]
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
Start = Callable[[Path], tuple[int, Callable[[], int]]]
"""Start ``afbench generate`` into a folder: the process id, and a call that waits for the exit code."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for number, side in enumerate((32, 48, 32)):
        pixels = np.random.default_rng(number).integers(0, 256, (32, side, 3), dtype=np.uint8)
        mask = np.zeros((32, side), np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    return root


@contextmanager
def _server(root: Path, **popen: Any) -> Iterator[Start]:
    """Fork runs from a process that has imported everything and computed nothing: no import to wait for."""
    popen["env"] = {**os.environ, "OMP_NUM_THREADS": "1", **popen.get("env", {})}
    server = subprocess.Popen([sys.executable, "-c", SERVER], stdin=-1, stdout=-1, text=True, **popen)
    assert server.stdin and server.stdout
    told = iter(server.stdout)
    assert next(told) == "ready\n"

    def start(out: Path) -> tuple[int, Callable[[], int]]:
        words = [*ARGUMENTS, "--source", f"folder:{root}", "--out", str(out)]
        print(*words, sep="\t", file=server.stdin, flush=True)
        return int(next(told)), wait

    def wait() -> int:
        print(file=server.stdin, flush=True)
        return int(next(told))

    yield start
    server.stdin.close()
    server.wait(timeout=30)
    server.stdout.close()


@pytest.fixture(scope="module")
def start(root: Path) -> Iterator[Start]:
    with _server(root) as start:
        yield start


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    assert start(out)[1]() == 0 and verify(out) == []
    return _tree(out)


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _wait_for(found: Callable[[], Any]) -> None:
    until = time.monotonic() + 30
    while not found():
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.slow)])
def test_a_kill_at_any_time_changes_no_byte_of_the_result(
    start: Start, whole: dict[str, bytes], tmp_path: Path, kills: int
) -> None:
    clock = time.monotonic()
    assert start(tmp_path / "timed")[1]() == 0
    lasted = time.monotonic() - clock
    print(f"AFBENCH_TEST_SEED={SEED}")
    moments, codes = random.Random(SEED), []
    for number in range(kills):
        out = tmp_path / str(number)
        process, wait = start(out)
        time.sleep(moments.uniform(0.05, 1.0) * lasted)
        os.kill(process, signal.SIGKILL)
        codes.append(wait())
        assert codes[-1] in (0, -signal.SIGKILL)
        assert start(out)[1]() == 0
        assert _tree(out) == whole, (SEED, number)
    assert -signal.SIGKILL in codes


def test_a_second_process_is_refused_and_the_lock_of_a_killed_one_is_free(
    start: Start, root: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process, wait = start(tmp_path)
    _wait_for((tmp_path / "log" / "owner").exists)
    os.kill(process, signal.SIGSTOP)
    held = _tree(tmp_path)
    with _server(root) as start_another:
        assert start_another(tmp_path)[1]() == 3
    assert _tree(tmp_path) == held
    os.kill(process, signal.SIGKILL)
    assert wait() == -signal.SIGKILL
    assert start(tmp_path)[1]() == 0
    assert _tree(tmp_path) == whole


def test_a_terminated_run_exits_with_3_and_resumes(
    start: Start, whole: dict[str, bytes], tmp_path: Path
) -> None:
    process, wait = start(tmp_path)
    _wait_for(lambda: list(tmp_path.glob("data/*/*.parquet")))
    os.kill(process, signal.SIGTERM)
    assert wait() == 3
    assert start(tmp_path)[1]() == 0
    assert _tree(tmp_path) == whole


def test_bytes_do_not_depend_on_hash_seed_time_zone_locale_folder_or_umask(
    root: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    surroundings = {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu", "LC_ALL": "C"}
    with _server(root, env=surroundings, cwd=tmp_path, umask=0o077) as start:
        assert start(Path("relative") / "out")[1]() == 0
    assert _tree(tmp_path / "relative" / "out") == whole
