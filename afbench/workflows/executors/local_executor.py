"""Executor ``local``: processes on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from afbench.core import AfbenchError

from .executor import Ended, Hands, last_line, one_line
from .job import Job, job_as_text

_COMMAND = (sys.executable, "-P", "-c", "from afbench.workflows.executors.worker_process import main; main()")
_STOP_SECONDS = 10


@dataclass(frozen=True)
class _Process:
    popen: subprocess.Popen[bytes]
    answer: IO[bytes]
    errors: IO[bytes]


@contextmanager
def local_hands() -> Iterator[Hands]:
    """Start jobs as processes; all are stopped at the end, and by themselves if this process is killed."""
    started: list[_Process] = []

    def start(jobs: Sequence[Job]) -> list[_Process]:
        for job in jobs:
            started.append(_start(job))
        return started[len(started) - len(jobs) :]

    try:
        yield Hands(start, _ended)
    finally:
        _stop(started)


def _start(job: Job) -> _Process:
    with one_line(f"{job.name} does not start; fewer --workers may", AfbenchError):
        answer, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        popen = subprocess.Popen(
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=errors,
            start_new_session=True,  # a Ctrl-C in the terminal is for this process, which then stops them
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
    assert popen.stdin
    with suppress(BrokenPipeError):
        popen.stdin.write(f"{job_as_text(job)}\n".encode())
        popen.stdin.flush()
    return _Process(popen, answer, errors)


def _ended(process: _Process) -> Ended | None:
    code = process.popen.poll()
    if code is None:
        return None
    if code == 0 and (answer := _read(process.answer)):
        return Ended(json.loads(answer))
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    said = last_line(_read(process.errors))
    return Ended(None, f"{how}: {said}" if said else how)


def _read(stream: IO[bytes]) -> str:
    # by position: the process writes at the offset it shares with this one, which a seek would move under it
    number = stream.fileno()
    return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")


def _stop(started: Sequence[_Process]) -> None:
    for one in started:
        if one.popen.poll() is None:
            one.popen.terminate()
    for one in started:
        try:
            one.popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            one.popen.kill()
            one.popen.wait()
        for stream in (one.popen.stdin, one.answer, one.errors):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()
