"""A worker does one job, wherever it is, and says how it ended."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from afbench.allocator import keep_freed_memory
from afbench.core import AfbenchError, UsageError
from afbench.storage.run_folder import log_event

from ..generation.generate import generate
from ..provenance import difference, software
from ..request import Hooks
from .job import Job, job_from_text


def run_job(text: str) -> dict[str, Any]:
    """Do a job; what a user can mend is told, anything else is raised.

    Returns:
        ``shards``, ``gradients`` and ``shards_left``, or ``error`` and its ``exit_code``.
    """
    job = job_from_text(text)

    def say(line: str) -> None:
        log_event(Path(job.out), event="said", process=os.getpid(), line=line)

    try:
        _enter(job)
        keep_freed_memory()
        torch.set_num_threads(job.threads)
        done = generate(job.plan, Path(job.out), job.options, Hooks(say=say), job.part)
    except AfbenchError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    return {"shards": done.shards_written, "gradients": done.gradients, "shards_left": done.shards_left}


def _enter(job: Job) -> None:
    """Stand where the command stood.

    Raises:
        UsageError: if its folder is not there, or other versions are installed here.
    """
    node = os.uname().nodename
    try:
        os.chdir(job.folder)
    except OSError as error:
        raise UsageError(
            f"machine {node} has no '{job.folder}' ({error.strerror}); share the working folder of the command with the "
            "workers"
        ) from None
    os.environ.update(job.environment)
    differs = difference(job.libraries, libraries())
    if differs:
        raise UsageError(
            f"machine {node} has other versions ({'; '.join(differs)}), which may make other bytes; install the same"
        )


def libraries() -> Mapping[str, str]:
    """The versions that decide bytes."""
    told = software()
    return {"afbench": told["afbench"], **told["libraries"]}
