"""Generate with an executor: this process prepares, follows and publishes; workers make the shards."""

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
from afbench.plans import RunPlan
from afbench.storage.locks import locked
from afbench.storage.manifests import LOG

from ..generation.finalise import finalise
from ..generation.generate import GOES_ON, describe_committed, generate, remaining_work, retry_failed
from ..generation.outcome import Outcome, summarise_run
from ..generation.prepare import (
    check_disk,
    commit_headers,
    fingerprint,
    is_finished,
    list_shard_jobs,
    prepare,
)
from ..generation.shard_jobs import ShardJob
from ..request import GenerateHooks, Options, Part, check_request
from .executor import Executor, JobReports, run_jobs
from .executor_spec import ExecutorSpec
from .job import WorkerJob
from .worker import library_versions

PARTS_PER_WORKER = 4
"""A Ray cluster gets more parts than it has workers, so that a slow or lost worker delays only a small part."""


@dataclass(frozen=True)
class _OpenExecutor:
    """An executor that accepts jobs: how many at once, and into how many parts the shards are dealt.

    With 0 parts, workers on this machine share all shards: whoever is free locks the next one.
    """

    executor: Executor
    at_once: int
    parts: int
    devices: Sequence[str]


def dispatch_generate(
    target: ExecutorSpec | Part | None,
    plan: RunPlan,
    out: Path,
    options: Options,
    hooks: GenerateHooks | None = None,
) -> Outcome:
    """Generate in this process, as one of several parts, or with an executor's workers."""
    if isinstance(target, ExecutorSpec):
        return generate_with_executor(target, plan, out, options, hooks)
    return generate(plan, out, options, hooks, target)


def generate_with_executor(
    spec: ExecutorSpec, plan: RunPlan, out: Path, options: Options, hooks: GenerateHooks | None = None
) -> Outcome:
    """Generate the same bytes as ``generate``, with the shards made by workers.

    Sources are indexed and the user's mistakes are reported before a worker starts. Progress and the lines of workers reach
    ``hooks`` through the log in the folder.

    Raises:
        UsageError: as ``generate``, and for devices that do not exist or an executor that cannot be reached.
        PartialError: if workers died too often and left shards unmade.
        AfbenchError: if a worker ends with an error; the other workers are stopped.
    """
    hooks = hooks or GenerateHooks()
    check_request(plan, out, options)
    devices = _worker_devices(spec, options.device)
    # this process stays on the CPU and leaves the GPUs to the workers, of whom the slowest decides where shards are cut
    shard_device = min(devices, default=options.device)
    prepared = prepare(plan, out, replace(options, device="cpu"), hooks, shard_device)
    if not options.ignore_disk:
        check_disk(out, prepared)
    job_reports = JobReports([], [])
    if options.retry_failed:
        retry_failed(out, prepared)
    if not is_finished(out, prepared):
        # the workers of a cluster may share no file locks with this machine
        loose, same_plan = spec.executor != "local", fingerprint(prepared, options)
        with locked(out, same_plan, loose=loose):
            commit_headers(out, prepared)  # workers read from these where to cut shards
            shard_jobs = list_shard_jobs(out, prepared)
        if _count_unmade(out, shard_jobs):
            try:
                with _open_executor(spec, options.device, devices, out, shard_jobs) as open_executor:
                    jobs = _worker_jobs(
                        open_executor,
                        plan,
                        out,
                        # both were done above, once for all workers
                        replace(options, retry_failed=False, ignore_disk=True),
                        shard_jobs,
                    )
                    hooks.progress.start(remaining_work(out, prepared, shard_jobs))
                    _report_idle_workers(spec.workers or len(devices), len(jobs), hooks)
                    watch = _follow_log(out / LOG / "run.jsonl", hooks)
                    job_reports = run_jobs(
                        open_executor.executor,
                        jobs,
                        at_once=open_executor.at_once,
                        say=hooks.progress.say,
                        watch=watch,
                    )
                    watch()
            except KeyboardInterrupt:  # the executor has closed: workers have committed what they could
                lost = "what workers had begun of the others is lost"
                raise Stopped(f"{describe_committed(out, shard_jobs)}, {lost}; {GOES_ON}") from None
        if not is_finished(out, prepared):
            unmade = _count_unmade(out, list_shard_jobs(out, prepared))
            if unmade:
                reason = "; ".join(job_reports.lost) or "workers ended early"
                raise PartialError(
                    f"{unmade} shards are not made: {reason}; the same command goes on from there"
                )
            # every shard is there, but no worker lived to publish them
            with locked(out, same_plan, loose=loose):
                finalise(out)
    return summarise_run(
        out,
        prepared,
        shards=sum(report["shards"] for report in job_reports.reports),
        gradients=sum(report["gradients"] for report in job_reports.reports),
    )


def _worker_devices(spec: ExecutorSpec, device: str) -> Sequence[str]:
    """Return one device for each local worker.

    Raises:
        UsageError: if a device does not exist, or neither workers nor devices are given.
    """
    if spec.executor != "local":
        return ()
    count = torch.cuda.device_count()
    devices = spec.devices
    if not devices and spec.workers is None and device == "cuda":
        devices = tuple(f"cuda:{number}" for number in range(count))
    if not devices and spec.workers is None:
        raise UsageError("--executor local needs --workers N, or --devices such as cuda:0,cuda:1")
    devices = devices or (device,)
    for name in devices:
        if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
            raise UsageError(f"device '{name}' does not exist; this machine shows {count} GPUs to torch")
    return [devices[number % len(devices)] for number in range(spec.workers or len(devices))]


def _report_idle_workers(workers: int, jobs: int, hooks: GenerateHooks) -> None:
    if jobs < workers:
        hooks.progress.say(
            f"only {jobs} of {workers} workers have work, one for each shard that is left; a smaller --shard-size makes more shards"
        )


def _count_unmade(out: Path, shard_jobs: Sequence[ShardJob]) -> int:
    return sum(not shard_job.is_made(out) for shard_job in shard_jobs)


@contextmanager
def _open_executor(
    spec: ExecutorSpec, device: str, devices: Sequence[str], out: Path, shard_jobs: Sequence[ShardJob]
) -> Iterator[_OpenExecutor]:
    """Open the executor that the specification names; its jobs end with the block."""
    if spec.executor == "local":
        from .local_executor import open_local_executor

        used_devices = devices[: _count_unmade(out, shard_jobs)]
        with open_local_executor() as executor:
            yield _OpenExecutor(executor, len(used_devices), 0, used_devices)
    elif spec.executor == "ray":
        from .ray_executor import open_ray_executor

        with open_ray_executor(spec, device) as (executor, workers_on_cluster):
            workers = spec.workers or workers_on_cluster
            yield _OpenExecutor(executor, workers, min(len(shard_jobs), PARTS_PER_WORKER * workers), ())
    else:
        from .slurm_executor import open_slurm_executor

        workers = spec.workers or 1
        with open_slurm_executor(
            spec, device, out.absolute() / LOG / "slurm", torch.get_num_threads()
        ) as executor:
            yield _OpenExecutor(executor, workers, min(len(shard_jobs), workers), ())


def _worker_jobs(
    open_executor: _OpenExecutor, plan: RunPlan, out: Path, options: Options, shard_jobs: Sequence[ShardJob]
) -> list[WorkerJob]:
    job = WorkerJob(
        name="",
        plan=plan,
        options=options,
        out=str(out.absolute()),
        part=None,
        folder=str(Path.cwd()),
        environment={name: value for name, value in os.environ.items() if name.startswith("AFBENCH_")},
        threads=torch.get_num_threads(),
        libraries=library_versions(),
    )
    if not open_executor.parts:
        return [
            replace(job, name=f"worker {number} on {device}", options=replace(options, device=device))
            for number, device in enumerate(open_executor.devices)
        ]
    return [
        replace(job, name=f"part {number} of {open_executor.parts}", part=Part(number, open_executor.parts))
        for number in range(open_executor.parts)
        if _count_unmade(out, shard_jobs[number :: open_executor.parts])
    ]


def _follow_log(path: Path, hooks: GenerateHooks) -> Callable[[], None]:
    """Return a function that passes on to ``hooks`` what the log has gained since its last call: work done and lines."""
    position = path.stat().st_size if path.exists() else 0

    def watch() -> None:
        nonlocal position
        if not path.exists():
            return
        with path.open("rb") as stream:
            stream.seek(position)
            data = stream.read()
        # the last line may be half written; the next call reads it whole
        complete_lines = data[: data.rfind(b"\n") + 1]
        position += len(complete_lines)
        for line in complete_lines.splitlines():
            with suppress(ValueError, KeyError, TypeError):  # two machines may have written over each other
                _forward_entry(json.loads(line), hooks)

    return watch


def _forward_entry(entry: dict[str, Any], hooks: GenerateHooks) -> None:
    if entry["event"] == "group":
        hooks.progress.advance(int(entry["work"]))
    elif entry["event"] == "said":
        hooks.progress.say(str(entry["line"]))
