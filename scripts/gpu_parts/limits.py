"""Run sections one after the other, each in a process of its own that may take only so long."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context

from .report import Report, Scale

GRACE_SECONDS = 5.0
"""What a section gets to end by itself, after it was told to."""


@dataclass(frozen=True)
class Section:
    """A part of the check: ``run`` writes what it measured; after ``seconds`` it is stopped."""

    name: str
    seconds: float
    run: Callable[[Report, Scale], None]


def run_sections(sections: Sequence[Section], report: Report, scale: Scale, *, seconds: float) -> list[str]:
    """Run the sections within ``seconds`` in all, and return the names of those that failed or were stopped.

    A section that hangs, crashes or runs out of memory takes none of the others with it. The caller must not have used the
    GPU yet: a process that has cannot be forked.
    """
    end = time.monotonic() + seconds
    incomplete = []
    for section in sections:
        allowed = min(section.seconds, end - time.monotonic())
        outcome = _run_limited(section, report, scale, allowed) if allowed > 0 else "not run: no time left"
        if outcome:
            report.line(f"**{section.name}: {outcome}.**")
            report.line()
            incomplete.append(section.name)
    return incomplete


def _run_limited(section: Section, report: Report, scale: Scale, seconds: float) -> str:
    """Run one section; return why it did not finish, or ""."""
    process = get_context("fork").Process(target=_run_alone, args=(section, report, scale))
    start = time.monotonic()
    process.start()
    process.join(seconds)
    if process.is_alive():
        _stop_group(process.pid or 0, signal.SIGINT)
        process.join(GRACE_SECONDS)
        outcome = f"stopped after {seconds:.0f} s; what stands above was measured"
    elif process.exitcode:
        outcome = f"failed with exit code {process.exitcode}; standard error says why"
    else:
        outcome = ""
    _stop_group(process.pid or 0, signal.SIGKILL)  # also what the section started and left
    process.join()
    print(f"{section.name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return outcome


def _run_alone(section: Section, report: Report, scale: Scale) -> None:
    os.setsid()
    try:
        section.run(report, scale)
    except KeyboardInterrupt:
        os._exit(130)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def _stop_group(group: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
