"""Run jobs as processes on this machine: executor ``local``."""

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

from .executor import Executor, JobEnd, errors_as_one_line, last_line
from .job import WorkerJob, job_as_text

_COMMAND = (sys.executable, "-P", "-c", "from afbench.workflows.executors.worker_process import main; main()")
_STOP_SECONDS = 10


@dataclass(frozen=True)
class _Process:
    popen: subprocess.Popen[bytes]
    answer: IO[bytes]
    errors: IO[bytes]


@contextmanager
def open_local_executor() -> Iterator[Executor]:
    """Start jobs as processes; stop them when the block ends. If this process is killed, they stop by themselves."""
    processes: list[_Process] = []

    def start(jobs: Sequence[WorkerJob]) -> list[_Process]:
        for job in jobs:
            processes.append(_start(job))
        return processes[len(processes) - len(jobs) :]

    try:
        yield Executor(start, _poll)
    finally:
        _stop(processes)


def _start(job: WorkerJob) -> _Process:
    with errors_as_one_line(f"{job.name} does not start; fewer --workers may", AfbenchError):
        # files, not pipes: nobody reads while a worker runs, and a full pipe would stop it
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
    # a worker that is dead already is reported by the next poll; stdin stays open, for its end tells the worker to stop
    with suppress(BrokenPipeError):
        popen.stdin.write(f"{job_as_text(job)}\n".encode())
        popen.stdin.flush()
    return _Process(popen, answer, errors)


def _poll(process: _Process) -> JobEnd | None:
    code = process.popen.poll()
    if code is None:
        return None
    if code == 0 and (answer := _read(process.answer)):
        return JobEnd(json.loads(answer))
    exit_text = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last_message = last_line(_read(process.errors))
    return JobEnd(None, f"{exit_text}: {last_message}" if last_message else exit_text)


def _read(stream: IO[bytes]) -> str:
    # by position: the process writes at the offset it shares with this one, which a seek would move under it
    number = stream.fileno()
    return os.pread(number, os.fstat(number).st_size, 0).decode(errors="replace")


def _stop(processes: Sequence[_Process]) -> None:
    for process in processes:
        if process.popen.poll() is None:
            process.popen.terminate()
    for process in processes:
        try:
            process.popen.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
        for stream in (process.popen.stdin, process.answer, process.errors):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()
