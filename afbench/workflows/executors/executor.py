"""Run jobs on an executor, and start those again whose worker died."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from afbench.core import AfbenchError, PartialError, UsageError

from .job import WorkerJob

RESTARTS = 3
"""How many times a job is started again after its worker died."""
_POLL_SECONDS = 0.1
_ERRORS = {2: UsageError, 3: PartialError}


@dataclass(frozen=True)
class JobEnd:
    """How a job ended: with the report of its worker, or with none and then ``reason``, the last line the worker printed."""

    report: Mapping[str, Any] | None
    reason: str = ""


@dataclass(frozen=True)
class Executor:
    """Where jobs run: ``start`` returns one handle per job; ``poll`` returns None as long as the job of a handle runs."""

    start: Callable[[Sequence[WorkerJob]], Sequence[Any]]
    poll: Callable[[Any], JobEnd | None]


@dataclass(frozen=True)
class _RunningJob:
    handle: Any
    job: WorkerJob
    starts: int


@dataclass(frozen=True)
class JobReports:
    """The reports of the jobs that succeeded, and one message for each job that was given up."""

    reports: Sequence[Mapping[str, Any]]
    lost: Sequence[str]


def run_jobs(
    executor: Executor,
    jobs: Sequence[WorkerJob],
    *,
    at_once: int,
    say: Callable[[str], None],
    watch: Callable[[], None],
) -> JobReports:
    """Run every job, at most ``at_once`` at a time; start a job again if its worker died.

    Args:
        say: gets a line for each worker that died.
        watch: is called after each round of polling.
    Raises:
        AfbenchError: as soon as a job reports an error, with the message and exit code of that error.
    """
    waiting = deque((job, 1) for job in jobs)
    running: list[_RunningJob] = []
    reports: list[Mapping[str, Any]] = []
    lost: list[str] = []
    while waiting or running:
        batch = [waiting.popleft() for _ in range(min(at_once - len(running), len(waiting)))]
        # all at once: Slurm takes them as one array
        handles = executor.start([job for job, _ in batch]) if batch else []
        running += [
            _RunningJob(handle, *job_and_starts)
            for handle, job_and_starts in zip(handles, batch, strict=True)
        ]
        for running_job in list(running):
            job_end = executor.poll(running_job.handle)
            if job_end is None:
                continue
            running.remove(running_job)
            if job_end.report is not None:
                reports.append(_require_success(running_job.job, job_end.report))
            elif running_job.starts > RESTARTS:
                # the other jobs go on; the caller says how many shards are missing
                lost.append(
                    f"{running_job.job.name} died {running_job.starts} times (the last: {job_end.reason})"
                )
                say(lost[-1])
            else:
                say(f"{running_job.job.name} died ({job_end.reason}); starting it again")
                waiting.append((running_job.job, running_job.starts + 1))
        watch()
        time.sleep(_POLL_SECONDS)
    return JobReports(reports, lost)


@contextmanager
def errors_as_one_line(prefix: str, error_class: type[AfbenchError] = UsageError) -> Iterator[None]:
    """Turn whatever the library behind an executor raises into one line that begins with ``prefix``.

    Raises:
        AfbenchError: of class ``error_class``; our own errors pass unchanged.
    """
    try:
        yield
    except AfbenchError:
        raise
    except Exception as error:  # Ray raises a bare Exception if a node does not start in time
        reason = " ".join(str(error).split())[:300] or "no reason given"
        raise error_class(f"{prefix} ({type(error).__name__}: {reason})") from None


def last_line(text: str) -> str:
    """Return the last line that is not blank, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _require_success(job: WorkerJob, report: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in report:
        raise _ERRORS.get(report["exit_code"], AfbenchError)(f"{job.name}: {report['error']}")
    return report
