"""Generate a benchmark: attack, store, resume, publish."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from afbench.core import AfbenchError, Stopped
from afbench.engine import compute_precision
from afbench.engine.io_pool import default_threads
from afbench.files import sweep
from afbench.plans import RunPlan
from afbench.storage.locks import at_work, locked
from afbench.storage.run_folder import commit_header, has_records, log_event

from ..provenance import software
from ..request import GenerateHooks, Options, Part, check_request
from .finalise import finalise
from .outcome import Outcome, summarise_run
from .prepare import (
    PreparedPlan,
    check_disk,
    check_folder,
    commit_headers,
    fingerprint,
    is_finished,
    list_shard_jobs,
    prepare,
    published_shards,
)
from .retry import reopen_failed
from .run_context import RunContext, list_stamp
from .run_progress import GradientCounter
from .shard_jobs import ShardJob, run_shard_jobs

GOES_ON = "the same command goes on from there"


def generate(
    plan: RunPlan, out: Path, options: Options, hooks: GenerateHooks | None = None, part: Part | None = None
) -> Outcome:
    """Make the configs of a plan in a folder, or what is missing of them.

    Every shard is committed by itself, so an interrupted run resumes where it stopped and ends with the same bytes.
    The folder may hold other configs, and other processes may make shards of the same plan at the same time.

    Args:
        part: make only the shards of this part, and rely on no lock; the part that ends last publishes.
    Raises:
        UsageError: before anything is written, if the folder, a localizer or a source cannot be used, or the
            folder holds a config that was made differently.
        PartialError: if another process writes to the folder.
        AfbenchError: if a shard cannot be written.
    """
    hooks = hooks or GenerateHooks()
    check_request(plan, out, options)
    prepared = prepare(plan, out, options, hooks)
    run = RunContext(
        out=out,
        seed=plan.seed,
        device=options.device,
        batch_size=options.batch_size,
        image_format=options.image_format,
        progress=start_progress(prepared, hooks),
        say=hooks.progress.say,
        image_threads=default_threads() if options.image_threads is None else options.image_threads,
        deterministic=options.deterministic,
        compiled=options.compile,
    )
    if options.retry_failed:
        retry_failed(out, prepared)
    if not options.ignore_disk:
        check_disk(out, prepared)
    unmade_shards, loose = 0, part is not None
    if not is_finished(out, prepared):
        same_plan = fingerprint(prepared, options)
        with ExitStack() as stack:
            with locked(out, same_plan, loose=loose):
                # check again: another process may have written while this one waited for the lock
                check_folder(out, prepared)
                shard_jobs = _begin_run(run, prepared)
                # every N-th, so that each part has shards of every source
                own_shard_jobs = shard_jobs[part.index :: part.count] if part else shard_jobs
                hooks.progress.start(remaining_work(out, prepared, own_shard_jobs))
                stack.enter_context(at_work(out, same_plan, loose=loose))
            try:
                with compute_precision(
                    options.precision, options.device, deterministic=options.deterministic
                ):
                    run_shard_jobs(run, own_shard_jobs, loose=loose)
            except KeyboardInterrupt:
                lost_work = f"{run.gradients - run.committed_gradients} gradients of unfinished ones are lost"
                raise Stopped(f"{describe_committed(out, own_shard_jobs)}, {lost_work}; {GOES_ON}") from None
            log_event(out, event="end", process=os.getpid(), gradients=run.gradients, shards=run.shards)
            # every process publishes at its end; the later ones find the same bytes and touch nothing
            with locked(out, same_plan, loose=loose):
                unmade_shards = _publish_if_complete(run, shard_jobs, part)
    return summarise_run(out, prepared, shards=run.shards, gradients=run.gradients, unmade=unmade_shards)


def start_progress(prepared: PreparedPlan, hooks: GenerateHooks) -> GradientCounter:
    """Start counting work, in gradients of the first localizer on the first source."""
    return GradientCounter(seconds=prepared.tasks[0].effort.gradient, advance=hooks.progress.advance)


def remaining_work(out: Path, prepared: PreparedPlan, shard_jobs: Sequence[ShardJob]) -> int:
    """Return the work that shards still need, in the gradients of ``start_progress``."""
    return int(
        sum(shard_job.seconds_left(out) for shard_job in shard_jobs) / prepared.tasks[0].effort.gradient
    )


def describe_committed(out: Path, shard_jobs: Sequence[ShardJob]) -> str:
    """Say how many shard files of a stopped run are committed."""
    committed, expected = (
        sum(shard_job.files_made(out) for shard_job in shard_jobs),
        sum(shard_job.files for shard_job in shard_jobs),
    )
    return f"{committed} of {expected} shards are committed and kept"


def retry_failed(out: Path, prepared: PreparedPlan) -> None:
    """Reopen the shards of the plan that lack samples whose attack failed."""
    reopen_failed(
        out, {(config, task.split.name) for task in prepared.tasks for config in task.configs().values()}
    )


def _publish_if_complete(run: RunContext, shard_jobs: Sequence[ShardJob], part: Part | None) -> int:
    """Publish, for a part only if all parts are complete; return how many shards other parts have yet to make."""
    if part is None:
        finalise(run.out)
        return 0
    unmade_shards = (
        0 if run.is_published() else sum(not shard_job.is_made(run.out) for shard_job in shard_jobs)
    )
    # ask again: another part may have published and removed the records that were just counted
    if run.is_published():
        return 0
    if not unmade_shards:
        try:
            finalise(run.out, overtaken=run.is_published)
        except AfbenchError:
            if not run.is_published():
                raise
        sweep(run.out)
    return unmade_shards


def _begin_run(run: RunContext, prepared: PreparedPlan) -> list[ShardJob]:
    """Commit how everything is made, log the start, and list the shards to look at, split by split."""
    run.published_at = list_stamp(run.out)
    versions = software()
    commit_headers(run.out, prepared)
    published = published_shards(run.out)
    for task in prepared.tasks:
        for config in task.without(published, len(task.split.cuts) - 1).configs().values():
            if not has_records(run.out, config=config):
                commit_header(run.out, config, prepared.headers[config].as_header(versions))
    log_event(
        run.out,
        event="start",
        process=os.getpid(),
        host=platform.node(),
        device=run.device,
        batch_size=run.batch_size,
        threads=torch.get_num_threads(),
    )
    return list_shard_jobs(run.out, prepared)
