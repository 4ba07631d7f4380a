"""What executors have in common: they start jobs and say how each ended; here is who restarts those that died."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from afbench.core import AfbenchError, PartialError, UsageError

from .job import Job

RESTARTS = 3
"""How often a job is started again whose worker died."""
_POLL_SECONDS = 0.1
_ERRORS = {2: UsageError, 3: PartialError}


@dataclass(frozen=True)
class Ended:
    """How a job ended: with a report, or without one, and then the last that was heard of it."""

    report: Mapping[str, Any] | None
    last: str = ""


@dataclass(frozen=True)
class Hands:
    """An executor at work: ``start`` jobs and get a handle each; ask whether one has ``ended``."""

    start: Callable[[Sequence[Job]], Sequence[Any]]
    ended: Callable[[Any], Ended | None]


@dataclass(frozen=True)
class _Running:
    handle: Any
    job: Job
    starts: int


@dataclass(frozen=True)
class Done:
    """What all jobs together did, and who was given up after how it died."""

    reports: Sequence[Mapping[str, Any]]
    lost: Sequence[str]


def run_jobs(
    hands: Hands,
    jobs: Sequence[Job],
    *,
    at_once: int,
    say: Callable[[str], None],
    watch: Callable[[], None],
) -> Done:
    """Have every job done, ``at_once`` of them at any time; those whose worker died are started again.

    ``watch`` is called all the while.

    Raises:
        AfbenchError: as soon as a job ends with an error, with its words and exit code.
    """
    waiting = deque((job, 1) for job in jobs)
    running: list[_Running] = []
    reports: list[Mapping[str, Any]] = []
    lost: list[str] = []
    while waiting or running:
        batch = [waiting.popleft() for _ in range(min(at_once - len(running), len(waiting)))]
        handles = hands.start([job for job, _ in batch]) if batch else []
        running += [_Running(handle, *one) for handle, one in zip(handles, batch, strict=True)]
        for one in list(running):
            ended = hands.ended(one.handle)
            if ended is None:
                continue
            running.remove(one)
            if ended.report is not None:
                reports.append(_good(one.job, ended.report))
            elif one.starts > RESTARTS:
                lost.append(f"{one.job.name} died {one.starts} times (the last: {ended.last})")
                say(lost[-1])
            else:
                say(f"{one.job.name} died ({ended.last}); starting it again")
                waiting.append((one.job, one.starts + 1))
        watch()
        time.sleep(_POLL_SECONDS)
    return Done(reports, lost)


@contextmanager
def one_line(what: str, kind: type[AfbenchError] = UsageError) -> Iterator[None]:
    """Turn whatever the library behind an executor raises into one line that begins with ``what``.

    Of any class: Ray raises a bare ``Exception`` where a node does not start in time.

    Raises:
        AfbenchError: of the given kind; our own errors pass as they are.
    """
    try:
        yield
    except AfbenchError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or "no reason given"
        raise kind(f"{what} ({type(error).__name__}: {reason})") from None


def last_line(text: str) -> str:
    """The last line that says anything, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def _good(job: Job, report: Mapping[str, Any]) -> Mapping[str, Any]:
    if "error" in report:
        raise _ERRORS.get(report["exit_code"], AfbenchError)(f"{job.name}: {report['error']}")
    return report
