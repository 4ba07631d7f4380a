"""Run jobs as a Slurm array through submitit: executor ``slurm``. Needs the extra ``slurm``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.cores import share_cores

from .executor import Executor, JobEnd, errors_as_one_line, last_line
from .executor_spec import ExecutorSpec
from .job import WorkerJob, job_as_text

_TIMEOUTS = 100
"""How many times submitit queues a job again that met its time limit; a job resumes from the committed shards."""
_STOP_SECONDS = 10


@dataclass(frozen=True)
class Resumable:
    """The callable that submitit runs in a Slurm job; ``checkpoint`` says what to queue again after a preemption."""

    def __call__(self, text: str) -> dict[str, Any]:
        share_cores()
        from .worker import run_job

        return run_job(text)

    def checkpoint(self, text: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


@contextmanager
def open_slurm_executor(spec: ExecutorSpec, device: str, logs: Path, threads: int) -> Iterator[Executor]:
    """Submit jobs to Slurm; cancel those that still run when the block ends.

    Args:
        spec: its ``params`` are submitit's; ``cluster=local`` runs the jobs on this machine, to try things out.
        device: ``cuda`` requests one GPU per job.
        logs: where submitit keeps its scripts and the output of jobs; a folder that all machines share.
        threads: CPUs requested per job.
    Raises:
        UsageError: if Slurm is not installed here, or a parameter is unknown.
    """
    with errors_as_one_line("--executor slurm cannot import submitit"):
        import submitit

    params = {"name": "afbench", "cpus_per_task": threads, **spec.params}
    if device.startswith("cuda"):
        params.setdefault("gpus_per_node", 1)
    cluster = str(params.pop("cluster", "slurm"))
    timeouts = params.pop("slurm_max_num_timeout", _TIMEOUTS)
    # on other clusters submitit also makes a folder that is literally called %j
    folder = logs / "%j" if cluster == "slurm" else logs
    with errors_as_one_line("--executor slurm cannot submit jobs"):
        submitit_executor = submitit.AutoExecutor(
            folder=folder, cluster=cluster, slurm_max_num_timeout=timeouts
        )
        submitit_executor.update_parameters(slurm_array_parallelism=spec.workers, **params)
    all_jobs: list[Any] = []

    def start(jobs: Sequence[WorkerJob]) -> list[Any]:
        # submitit raises errors of many classes here: an OSError if there is no `sbatch`
        with errors_as_one_line("Slurm took no jobs"), submitit_executor.batch():
            submitted = [submitit_executor.submit(Resumable(), job_as_text(job)) for job in jobs]
        all_jobs.extend(submitted)
        return submitted

    def poll(job: Any) -> JobEnd | None:
        if not job.done():
            return None
        try:
            return JobEnd(job.result())
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
            last_message = last_line(job.stderr() or "") or last_line(str(error))
            return JobEnd(None, f"job {job.job_id}, {job.state}: {last_message}")

    try:
        yield Executor(start, poll)
    finally:
        _cancel([job for job in all_jobs if not job.done()])


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel(check=False)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline and not all(job.done() for job in jobs):
        time.sleep(0.1)
