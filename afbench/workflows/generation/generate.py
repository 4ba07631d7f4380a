"""The main job: attack, store, resume, finalise."""

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
from afbench.plan import RunPlan
from afbench.storage.commit import sweep
from afbench.storage.locks import at_work, locked
from afbench.storage.run_folder import commit_header, has_records, log_event

from ..provenance import software
from ..request import Hooks, Options, Part, check_request
from .finalise import finalise
from .outcome import Outcome, outcome
from .prepare import (
    Ready,
    check_disk,
    check_folder,
    commit_headers,
    fingerprint,
    is_finished,
    list_units,
    prepare,
    published_shards,
)
from .retry import reopen_failed
from .run_progress import Headway
from .shard_jobs import Unit, run_units
from .shard_run import Run, stamp

GOES_ON = "the same command goes on from there"


def generate(
    plan: RunPlan, out: Path, options: Options, hooks: Hooks | None = None, part: Part | None = None
) -> Outcome:
    """Make the configs of a plan in a folder, or the part of them that is missing.

    Every shard is committed by itself; a run that was interrupted goes on where it stopped and ends with the
    same bytes. Other configs may be there already, and other processes may make shards of the same plan at the same time.
    Of a ``part`` only its own shards are made, and no lock is relied on; whoever ends last publishes.

    Raises:
        UsageError: before anything is written, if the folder, a localizer or a source cannot be used, or a
            config exists that was made differently.
        PartialError: if another process writes to the folder.
        AfbenchError: if a shard cannot be written.
    """
    hooks = hooks or Hooks()
    check_request(plan, out, options)
    ready = prepare(plan, out, options, hooks)
    run = Run(
        out,
        plan.seed,
        options.device,
        options.batch_size,
        options.image_format,
        headway(ready, hooks),
        hooks.say,
        default_threads() if options.image_threads is None else options.image_threads,
        options.deterministic,
        options.compile,
    )
    if options.retry_failed:
        retry(out, ready)
    if not options.ignore_disk:
        check_disk(out, ready)
    left, loose = 0, part is not None
    if not is_finished(out, ready):
        same_plan = fingerprint(ready, options)
        with ExitStack() as stack:
            with locked(out, same_plan, loose=loose):
                # again: another process may have written while this one waited
                check_folder(out, ready)
                units = _begin(run, ready)
                ours = units[part.index :: part.count] if part else units
                hooks.start(work_left(out, ready, ours))
                stack.enter_context(at_work(out, same_plan, loose=loose))
            try:
                with compute_precision(
                    options.precision, options.device, deterministic=options.deterministic
                ):
                    run_units(run, ours, loose=loose)
            except KeyboardInterrupt:
                lost = f"{run.gradients - run.kept} gradients of unfinished ones are lost"
                raise Stopped(f"{files_kept(out, ours)}, {lost}; {GOES_ON}") from None
            log_event(out, event="end", process=os.getpid(), gradients=run.gradients, shards=run.shards)
            # by each that was at work: what the first has published is not touched
            with locked(out, same_plan, loose=loose):
                left = _publish(run, units, part)
    return outcome(out, ready, shards=run.shards, gradients=run.gradients, left=left)


def headway(ready: Ready, hooks: Hooks) -> Headway:
    """Counts work in gradients of the first localizer on the first source."""
    return Headway(ready.tasks[0].effort.gradient, hooks.advance)


def work_left(out: Path, ready: Ready, units: Sequence[Unit]) -> int:
    """What units still take, as ``headway`` counts it."""
    return int(sum(unit.seconds_left(out) for unit in units) / ready.tasks[0].effort.gradient)


def files_kept(out: Path, units: Sequence[Unit]) -> str:
    """How many shards of a run that was stopped are there, in words."""
    made, wanted = sum(unit.files_made(out) for unit in units), sum(unit.files for unit in units)
    return f"{made} of {wanted} shards are committed and kept"


def retry(out: Path, ready: Ready) -> None:
    """Make samples whose attack failed missing again."""
    reopen_failed(
        out, {(config, task.split.name) for task in ready.tasks for config in task.configs().values()}
    )


def _publish(run: Run, units: Sequence[Unit], part: Part | None) -> int:
    """Publish, but of parts only all together; returns how many shards other parts have yet to make."""
    if part is None:
        finalise(run.out)
        return 0
    left = 0 if run.is_published() else sum(not one.is_made(run.out) for one in units)
    # asked again: while these looked at records another part may have published, and removed them
    if run.is_published():
        return 0
    if not left:
        try:
            finalise(run.out, overtaken=run.is_published)
        except AfbenchError:
            if not run.is_published():
                raise
        sweep(run.out)
    return left


def _begin(run: Run, ready: Ready) -> list[Unit]:
    """Fix how everything is made, and list the shards to look at, split by split."""
    run.published_at = stamp(run.out)
    told = software()
    commit_headers(run.out, ready)
    published = published_shards(run.out)
    for task in ready.tasks:
        for config in task.without(published, len(task.split.cuts) - 1).configs().values():
            if not has_records(run.out, config=config):
                commit_header(run.out, config, ready.headers[config].as_header(told))
    log_event(
        run.out,
        event="start",
        process=os.getpid(),
        host=platform.node(),
        device=run.device,
        batch_size=run.batch_size,
        threads=torch.get_num_threads(),
    )
    return list_units(run.out, ready)
