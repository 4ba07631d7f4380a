"""Run one job in a worker, whichever executor started it, and report how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from afbench.allocator import keep_freed_memory
from afbench.core import AfbenchError, UsageError
from afbench.storage.run_folder import log_event
from afbench.work_progress import Progress

from ..generation.generate import generate
from ..provenance import difference, software
from ..request import GenerateHooks
from .job import WorkerJob, folder_of, job_from_text


def run_job(text: str) -> dict[str, Any]:
    """Run a job; report errors that a user can mend, and raise all others.

    Returns:
        ``shards``, ``gradients`` and ``shards_left``, or ``error`` and its ``exit_code``.
    """
    try:
        _enter_folder(folder_of(text))  # before the plan is read, which imports a user's own attacks
        job = job_from_text(text)

        def say(line: str) -> None:
            log_event(Path(job.out), event="said", process=os.getpid(), line=line)

        _reproduce_environment(job)
        keep_freed_memory()
        # another number of threads adds floats in another order, which changes bytes
        torch.set_num_threads(job.threads)
        outcome = generate(
            job.plan, Path(job.out), job.options, GenerateHooks(progress=Progress(say=say)), job.part
        )
    except AfbenchError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    return {
        "shards": outcome.shards_written,
        "gradients": outcome.gradients,
        "shards_left": outcome.shards_left,
    }


def _enter_folder(folder: str) -> None:
    """Take over the working folder of the command that made the job.

    Raises:
        UsageError: if it does not exist here.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(
            f"machine {os.uname().nodename} has no '{folder}' ({error.strerror}); share the working folder of the command "
            "with the workers"
        ) from None


def _reproduce_environment(job: WorkerJob) -> None:
    """Take over the environment of the command that made the job.

    Raises:
        UsageError: if other versions are installed here.
    """
    machine = os.uname().nodename
    os.environ.update(job.environment)
    differences = difference(job.libraries, library_versions())
    if differences:
        raise UsageError(
            f"machine {machine} has other versions ({'; '.join(differences)}), which may make other bytes; install the same"
        )


def library_versions() -> Mapping[str, str]:
    """Return the versions that decide the stored bytes."""
    versions = software()
    return {"afbench": versions["afbench"], **versions["libraries"]}
