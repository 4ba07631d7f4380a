"""Executor ``slurm``: an array of jobs by submitit. Needs the extra ``slurm``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afbench.cores import share_cores

from .executor import Ended, Hands, last_line, one_line
from .executor_spec import Crew
from .job import Job, job_as_text

_TIMEOUTS = 100
"""How often submitit queues a job again that met its time limit; each life goes on where the last one ended."""
_STOP_SECONDS = 10


@dataclass(frozen=True)
class Resumable:
    """A job as submitit wants it: called in the job, and asked for what to queue when the job is preempted."""

    def __call__(self, text: str) -> dict[str, Any]:
        share_cores()
        from .worker import run_job

        return run_job(text)

    def checkpoint(self, text: str) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, text)


@contextmanager
def slurm_hands(crew: Crew, device: str, logs: Path, threads: int) -> Iterator[Hands]:
    """Submit jobs; those that have not ended at the end of the block are cancelled.

    Args:
        crew: ``params`` are submitit's; ``cluster=local`` runs the jobs on this machine, to try things out.
        device: ``cuda`` asks for one GPU a job.
        logs: where submitit keeps its scripts and what jobs print, on a folder that all machines share.
        threads: CPUs a job asks for.
    Raises:
        UsageError: if there is no Slurm here, or a parameter is unknown.
    """
    with one_line("--executor slurm cannot import submitit"):
        import submitit

    params = {"name": "afbench", "cpus_per_task": threads, **crew.params}
    if device.startswith("cuda"):
        params.setdefault("gpus_per_node", 1)
    cluster = str(params.pop("cluster", "slurm"))
    timeouts = params.pop("slurm_max_num_timeout", _TIMEOUTS)
    # elsewhere submitit also makes a folder that is really called %j
    folder = logs / "%j" if cluster == "slurm" else logs
    with one_line("--executor slurm cannot submit jobs"):
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster, slurm_max_num_timeout=timeouts)
        executor.update_parameters(slurm_array_parallelism=crew.workers, **params)
    started: list[Any] = []

    def start(jobs: Sequence[Job]) -> list[Any]:
        # of any class: an `sbatch` that is not there is an OSError
        with one_line("Slurm took no jobs"), executor.batch():
            submitted = [executor.submit(Resumable(), job_as_text(job)) for job in jobs]
        started.extend(submitted)
        return submitted

    def ended(job: Any) -> Ended | None:
        if not job.done():
            return None
        try:
            return Ended(job.result())
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
            said = last_line(job.stderr() or "") or last_line(str(error))
            return Ended(None, f"job {job.job_id}, {job.state}: {said}")

    try:
        yield Hands(start, ended)
    finally:
        _cancel([job for job in started if not job.done()])


def _cancel(jobs: Sequence[Any]) -> None:
    for job in jobs:
        job.cancel(check=False)
    until = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < until and not all(job.done() for job in jobs):
        time.sleep(0.1)
