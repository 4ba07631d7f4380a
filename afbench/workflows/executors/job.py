"""Everything a worker needs to know for its part of a run, as one line of JSON. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from afbench.plans import RunPlan, plan_as_json, plan_from_json

from ..request import Options, Part


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """What one worker runs.

    ``folder`` is the working folder of the command: relative paths and a user's own modules start there. ``environment`` holds
    the variables that afbench reads. ``threads`` of torch and the versions in ``libraries`` decide the stored bytes, so they
    are the same for all workers.
    """

    name: str
    plan: RunPlan
    options: Options
    out: str
    part: Part | None
    folder: str
    environment: Mapping[str, str]
    threads: int
    libraries: Mapping[str, str]


def job_as_text(job: WorkerJob) -> str:
    """Write a job as one line of JSON."""
    # asdict cannot write the plan: its phi are fractions, which JSON does not have
    fields = {**asdict(replace(job, plan=None)), "plan": plan_as_json(job.plan)}  # type: ignore[arg-type]
    return json.dumps(fields)


def folder_of(text: str) -> str:
    """Read the working folder of a job, without its plan."""
    return str(json.loads(text)["folder"])


def job_from_text(text: str) -> WorkerJob:
    """Read the job that ``job_as_text`` wrote."""
    fields = json.loads(text)
    fields["plan"] = plan_from_json(fields["plan"])
    fields["options"] = Options(**fields["options"])
    fields["part"] = Part(**fields["part"]) if fields["part"] else None
    return WorkerJob(**fields)
