"""What a worker is told, as one line of JSON: the whole of a run, and which part of it. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from afbench.plan import RunPlan, plan_as_json, plan_from_json

from ..request import Options, Part


@dataclass(frozen=True)
class Job:
    """One worker's run.

    ``folder`` is the working folder of the command, which its relative paths and a user's own modules start from; ``environment``
    are the variables that afbench reads; ``threads`` are those of one process, and ``libraries`` their versions: both decide
    bytes, so all workers have the same.
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


def job_as_text(job: Job) -> str:
    """One line."""
    told = {**asdict(replace(job, plan=None)), "plan": plan_as_json(job.plan)}  # type: ignore[arg-type]
    return json.dumps(told)


def job_from_text(text: str) -> Job:
    """The job that ``job_as_text`` was given."""
    told = json.loads(text)
    told["plan"] = plan_from_json(told["plan"])
    told["options"] = Options(**told["options"])
    told["part"] = Part(**told["part"]) if told["part"] else None
    return Job(**told)
