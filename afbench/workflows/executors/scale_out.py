"""Generate by a crew: one process that prepares, watches and publishes, and workers that make shards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from afbench.core import PartialError, Stopped, UsageError
from afbench.plan import RunPlan
from afbench.storage.locks import locked
from afbench.storage.manifests import LOG

from ..generation.finalise import finalise
from ..generation.generate import GOES_ON, files_kept, generate, retry, work_left
from ..generation.outcome import Outcome, outcome
from ..generation.prepare import check_disk, commit_headers, fingerprint, is_finished, list_units, prepare
from ..generation.shard_jobs import Unit
from ..request import Hooks, Options, Part, check_request
from .executor import Done, Hands, run_jobs
from .executor_spec import Crew
from .job import Job
from .worker import libraries

PARTS_PER_WORKER = 4
"""A Ray cluster is given more parts than it has workers, so that a slow one or a lost one takes little with it."""


@dataclass(frozen=True)
class _At:
    """An executor that is ready: how many jobs at once, of how many parts (0: whoever is free takes the next shard)."""

    hands: Hands
    at_once: int
    parts: int
    devices: Sequence[str]


def generate_as(
    who: Crew | Part | None, plan: RunPlan, out: Path, options: Options, hooks: Hooks | None = None
) -> Outcome:
    """``generate`` by this process, as a part of several, or by a crew."""
    if isinstance(who, Crew):
        return generate_by(who, plan, out, options, hooks)
    return generate(plan, out, options, hooks, who)


def generate_by(
    crew: Crew, plan: RunPlan, out: Path, options: Options, hooks: Hooks | None = None
) -> Outcome:
    """As ``generate``, with the shards made by workers; the same bytes.

    Sources are indexed, and everything a user can mend is said, before a worker starts. The bar and what workers say comes from
    the log in the folder.

    Raises:
        UsageError: as ``generate``, and for devices that do not exist or an executor that cannot be reached.
        PartialError: if workers died again and again and left shards unmade.
        AfbenchError: if a worker ends with an error; the others are stopped.
    """
    hooks = hooks or Hooks()
    check_request(plan, out, options)
    devices = _devices(crew, options.device)
    # on the CPU: the GPUs are for the workers, whose slowest decides where shards are cut
    made_on = min(devices, default=options.device)
    ready = prepare(plan, out, replace(options, device="cpu"), hooks, made_on)
    if not options.ignore_disk:
        check_disk(out, ready)
    done = Done([], [])
    if options.retry_failed:
        retry(out, ready)
    if not is_finished(out, ready):
        # workers of a cluster may have no locks in common with this machine
        loose, same_plan = crew.executor != "local", fingerprint(ready, options)
        with locked(out, same_plan, loose=loose):
            commit_headers(out, ready)  # the workers cut their shards as these say
            units = list_units(out, ready)
        if _left(out, units):
            try:
                with _at_work(crew, options.device, devices, out, units) as at:
                    jobs = _jobs(at, plan, out, replace(options, retry_failed=False, ignore_disk=True), units)
                    hooks.start(work_left(out, ready, units))
                    _tell_of_idle(crew.workers or len(devices), len(jobs), hooks)
                    watch = _follow_log(out / LOG / "run.jsonl", hooks)
                    done = run_jobs(at.hands, jobs, at_once=at.at_once, say=hooks.say, watch=watch)
                    watch()
            except KeyboardInterrupt:  # by now the workers have committed what they could
                lost = "what workers had begun of the others is lost"
                raise Stopped(f"{files_kept(out, units)}, {lost}; {GOES_ON}") from None
        if not is_finished(out, ready):
            left = _left(out, list_units(out, ready))
            if left:
                why = "; ".join(done.lost) or "workers ended early"
                raise PartialError(f"{left} shards are not made: {why}; the same command goes on from there")
            with locked(out, same_plan, loose=loose):
                finalise(out)
    return outcome(
        out,
        ready,
        shards=sum(one["shards"] for one in done.reports),
        gradients=sum(one["gradients"] for one in done.reports),
    )


def _devices(crew: Crew, device: str) -> Sequence[str]:
    """The devices of local workers, one each.

    Raises:
        UsageError: if one does not exist, or nothing says how many workers there are to be.
    """
    if crew.executor != "local":
        return ()
    count = torch.cuda.device_count()
    found = crew.devices
    if not found and crew.workers is None and device == "cuda":
        found = tuple(f"cuda:{number}" for number in range(count))
    if not found and crew.workers is None:
        raise UsageError("--executor local needs --workers N, or --devices such as cuda:0,cuda:1")
    found = found or (device,)
    for name in found:
        if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
            raise UsageError(f"device '{name}' does not exist; this machine shows {count} GPUs to torch")
    return [found[number % len(found)] for number in range(crew.workers or len(found))]


def _tell_of_idle(workers: int, jobs: int, hooks: Hooks) -> None:
    if jobs < workers:
        hooks.say(
            f"{jobs} of {workers} workers have work: there are as many shards left; a smaller --shard-size makes more"
        )


def _left(out: Path, units: Sequence[Unit]) -> int:
    return sum(not one.is_made(out) for one in units)


@contextmanager
def _at_work(
    crew: Crew, device: str, devices: Sequence[str], out: Path, units: Sequence[Unit]
) -> Iterator[_At]:
    if crew.executor == "local":
        from .local_executor import local_hands

        used = devices[: _left(out, units)]
        with local_hands() as hands:
            yield _At(hands, len(used), 0, used)
    elif crew.executor == "ray":
        from .ray_executor import ray_hands

        with ray_hands(crew, device) as (hands, room):
            workers = crew.workers or room
            yield _At(hands, workers, min(len(units), PARTS_PER_WORKER * workers), ())
    else:
        from .slurm_executor import slurm_hands

        workers = crew.workers or 1
        with slurm_hands(crew, device, out.absolute() / LOG / "slurm", torch.get_num_threads()) as hands:
            yield _At(hands, workers, min(len(units), workers), ())


def _jobs(at: _At, plan: RunPlan, out: Path, options: Options, units: Sequence[Unit]) -> list[Job]:
    whole = Job(
        name="",
        plan=plan,
        options=options,
        out=str(out.absolute()),
        part=None,
        folder=str(Path.cwd()),
        environment={name: value for name, value in os.environ.items() if name.startswith("AFBENCH_")},
        threads=torch.get_num_threads(),
        libraries=libraries(),
    )
    if not at.parts:
        return [
            replace(whole, name=f"worker {number} on {device}", options=replace(options, device=device))
            for number, device in enumerate(at.devices)
        ]
    return [
        replace(whole, name=f"part {number} of {at.parts}", part=Part(number, at.parts))
        for number in range(at.parts)
        if _left(out, units[number :: at.parts])
    ]


def _follow_log(path: Path, hooks: Hooks) -> Callable[[], None]:
    """A call that tells what was logged since the last one: work done, and lines said."""
    seen = path.stat().st_size if path.exists() else 0

    def watch() -> None:
        nonlocal seen
        if not path.exists():
            return
        with path.open("rb") as stream:
            stream.seek(seen)
            fresh = stream.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        seen += len(whole)
        for line in whole.splitlines():
            with suppress(ValueError, KeyError, TypeError):  # two machines may have written at once
                _tell(json.loads(line), hooks)

    return watch


def _tell(entry: dict[str, Any], hooks: Hooks) -> None:
    if entry["event"] == "group":
        hooks.advance(int(entry["work"]))
    elif entry["event"] == "said":
        hooks.say(str(entry["line"]))
