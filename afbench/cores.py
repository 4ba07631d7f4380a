"""Share a machine with other processes: let threads sleep soon while they wait, and start no more than the usable cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Settings of OpenMP libraries (GNU's and Intel's) for how a thread waits."""
WAIT_BRIEFLY = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""Spin for some microseconds, which is nearly as fast as spinning for long where nothing else runs, then sleep. GNU's library, which
torch's wheels bring, takes the count and not the policy; others take the policy."""
_COUNTS = (("OMP_NUM_THREADS", "MKL_NUM_THREADS"), ("OPENCV_FOR_THREADS_NUM",))
"""Settings for how many threads there are; the first of each is the one that is made where none of them is."""
_GROUPS = {
    "": ("sys/fs/cgroup", "sys/fs/cgroup/unified"),
    "cpu": ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct"),
}
"""Where control groups lie: those of version 2, whose name is empty, and those of version 1 that limit processors."""


def share_cores() -> None:
    """Set in the environment how threads of libraries wait and how many there are, unless the user has set it.

    Threads soon wait asleep: those that spin for long at a barrier, as they come, burn the time of those they wait for wherever
    the machine has other work (docs/benchmarks). The libraries see by themselves which cores a process may run on; they do not see a
    quota of processor time, so where there is one, it becomes their number of threads.

    They read it when they are loaded: call this before NumPy and torch are imported. For processes of our own, not inside
    somebody's notebook.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(WAIT_BRIEFLY)
    cores = usable_cores()
    if cores < _allowed_cores():
        for names in _COUNTS:
            if not any(name in os.environ for name in names):
                os.environ[names[0]] = str(cores)


def usable_cores(system: Path = Path("/")) -> int:
    """Count the cores this process may use: those it may run on, at most its quota of processor time, rounded up.

    ``system`` is where ``proc`` and ``sys`` lie.
    """
    quotas = (-(-quota // period) for quota, period in _quotas(system))
    return max(1, min([_allowed_cores(), *quotas]))


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(system: Path) -> Iterator[tuple[int, int]]:
    """Yield the quota and the period, in microseconds, of every control group around this process that has a limit."""
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        for name in controllers.split(","):
            for mount in _GROUPS.get(name, ()):
                top = (system / mount).resolve()
                innermost = (top / group.lstrip("/")).resolve()
                # also those around it; in a container the group may be named from outside, and only the top is there
                for folder in (innermost, *innermost.parents):
                    if folder.is_relative_to(top):
                        yield from _quota(folder)


def _quota(folder: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit of one control group, if it has one.

    Version 2 writes ``150000 100000``, or ``max 100000`` for no limit; version 1 has two files and -1 for no limit.
    """
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        if int(quota) > 0 and int(period) > 0:
            yield int(quota), int(period)
    except (OSError, ValueError):  # no limit, or a file of another form
        return
