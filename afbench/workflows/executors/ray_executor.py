"""Run jobs as tasks of Ray Core, on a cluster it finds or starts: executor ``ray``. Needs the extra ``ray``."""

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

from .executor import Executor, JobEnd, errors_as_one_line, last_line
from .executor_spec import ExecutorSpec
from .job import WorkerJob, job_as_text


class RayExecutor(NamedTuple):
    """The executor, and the number of workers the cluster has resources for."""

    executor: Executor
    workers: int


@contextmanager
def open_ray_executor(spec: ExecutorSpec, device: str) -> Iterator[RayExecutor]:
    """Start jobs as tasks of a Ray cluster; stop them when the block ends. If this process is killed, Ray stops them.

    The cluster is the one at ``address``, else at ``RAY_ADDRESS``, else the one running on this machine, else a new one here.

    Raises:
        UsageError: if there is no such cluster, it does not start, or it lacks the resources of a worker.
        AfbenchError: if the cluster goes away while jobs run.
    """
    # Ray would report its use to its makers
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with errors_as_one_line("--executor ray cannot import ray"):
        import ray

    needs = {
        "num_cpus": float(spec.params.get("num_cpus", 1)),
        "num_gpus": float(spec.params.get("num_gpus", device.startswith("cuda"))),
    }
    owns_cluster = not ray.is_initialized()
    if owns_cluster:
        _connect(ray, spec.params.get("address"))
    references: list[Any] = []
    try:
        with errors_as_one_line("the Ray cluster cannot be used"):
            workers = _count_workers(ray.cluster_resources(), needs)
            # run_jobs starts a job again itself, since it counts the starts and tells the user
            task = ray.remote(max_retries=0, **needs)(_run)

        def start(jobs: Sequence[WorkerJob]) -> list[Any]:
            for job in jobs:
                with errors_as_one_line("the Ray cluster takes no task"):
                    references.append(task.options(name=job.name).remote(job_as_text(job)))
            return references[len(references) - len(jobs) :]

        def poll(reference: Any) -> JobEnd | None:
            with errors_as_one_line("the Ray cluster is gone", AfbenchError):
                if not ray.wait([reference], timeout=0)[0]:
                    return None
            try:
                return JobEnd(json.loads(ray.get(reference)))
            except ray.exceptions.RayTaskError as error:
                return JobEnd(None, last_line(str(error)))
            except ray.exceptions.RayError as error:
                return JobEnd(None, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")

        yield RayExecutor(Executor(start, poll), workers)
    finally:
        with suppress(Exception):  # a cluster that is gone has no tasks left to cancel
            for reference in references:
                ray.cancel(reference, force=True)
        if owns_cluster:
            with suppress(Exception):
                ray.shutdown()


def _run(text: str) -> str:
    """Run one job inside a Ray worker, which imports torch only then."""
    share_cores()
    from .worker import run_job

    return json.dumps(run_job(text))


def _connect(ray: Any, address: Any) -> None:
    previous_handler = signal.getsignal(signal.SIGTERM)
    try:
        with errors_as_one_line(f"no Ray cluster at '{address or 'auto'}'"):
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(
                signal.SIGTERM, previous_handler
            )  # Ray's handler would end this process with another exit code


def _count_workers(cluster_resources: dict[str, float], needs: dict[str, float]) -> int:
    worker_counts = []
    for name, unit in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        if needs[name] > cluster_resources.get(unit, 0):
            raise UsageError(
                f"a worker needs {needs[name]:g} {unit} (--executor-param {name}), and the Ray cluster has {cluster_resources.get(unit, 0):g}"
            )
        if needs[name]:
            worker_counts.append(int(cluster_resources[unit] / needs[name]))
    return max(1, min(worker_counts, default=1))
