"""Executor ``ray``: tasks of Ray Core, on whatever cluster it finds or starts. Needs the extra ``ray``."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from afbench.core import AfbenchError, UsageError
from afbench.cores import share_cores

from .executor import Ended, Hands, last_line, one_line
from .executor_spec import Crew
from .job import Job, job_as_text


class RayHands(NamedTuple):
    """The executor, and how many workers the cluster has room for."""

    hands: Hands
    room: int


@contextmanager
def ray_hands(crew: Crew, device: str) -> Iterator[RayHands]:
    """Connect to a cluster (``address``, else ``RAY_ADDRESS``, else one on this machine, else a new one here) and start jobs as
    tasks; all are stopped at the end. If this process is killed, Ray stops them.

    Raises:
        UsageError: if there is no such cluster, it does not start, or it has not what a worker needs.
        AfbenchError: if it is gone while jobs run.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with one_line("--executor ray cannot import ray"):
        import ray

    needs = {
        "num_cpus": float(crew.params.get("num_cpus", 1)),
        "num_gpus": float(crew.params.get("num_gpus", device.startswith("cuda"))),
    }
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, crew.params.get("address"))
    started: list[Any] = []
    try:
        with one_line("the Ray cluster cannot be used"):
            room = _room(ray.cluster_resources(), needs)
            # a worker that died is started again by whoever counts how often, and says so
            task = ray.remote(max_retries=0, **needs)(_run)

        def start(jobs: Sequence[Job]) -> list[Any]:
            for job in jobs:
                with one_line("the Ray cluster takes no task"):
                    started.append(task.options(name=job.name).remote(job_as_text(job)))
            return started[len(started) - len(jobs) :]

        def ended(reference: Any) -> Ended | None:
            with one_line("the Ray cluster is gone", AfbenchError):
                if not ray.wait([reference], timeout=0)[0]:
                    return None
            try:
                return Ended(json.loads(ray.get(reference)))
            except ray.exceptions.RayTaskError as error:
                return Ended(None, last_line(str(error)))
            except ray.exceptions.RayError as error:
                return Ended(None, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")

        yield RayHands(Hands(start, ended), room)
    finally:
        with suppress(Exception):  # of a cluster that is gone, which has no tasks left either
            for reference in started:
                ray.cancel(reference, force=True)
        if ours:
            with suppress(Exception):
                ray.shutdown()


def _run(text: str) -> str:
    """The task; what it needs is imported where it runs."""
    share_cores()
    from .worker import run_job

    return json.dumps(run_job(text))


def _connect(ray: Any, address: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with one_line(f"no Ray cluster at '{address or 'auto'}'"):
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own would end this process with another exit code


def _room(has: dict[str, float], needs: dict[str, float]) -> int:
    rooms = []
    for name, unit in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if needs[name] > has.get(unit, 0):
            raise UsageError(
                f"a worker needs {needs[name]:g} {unit} (--executor-param {name}), and the Ray cluster has {has.get(unit, 0):g}"
            )
        if needs[name]:
            rooms.append(int(has[unit] / needs[name]))
    return max(1, min(rooms, default=1))
