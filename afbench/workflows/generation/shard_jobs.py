"""Make the shards of a plan one by one, while other processes may make them too."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from afbench.core import BadSample, Sample
from afbench.engine.io_pool import threads, writing
from afbench.plans.estimate import LEAST_SHARE
from afbench.storage.locks import other_workers, poll, shard_lock

from .run_context import IoThreads, RunContext
from .shard_run import run_shard, start_reading
from .splits import Split
from .tasks import Task, files_made, is_made, seconds_left


@dataclass(frozen=True)
class ShardJob:
    """One shard of a split's samples: the originals and every attacked config of them."""

    split: Split
    number: int
    tasks: Sequence[Task]
    originals_published: bool

    @property
    def name(self) -> str:
        return f"{self.split.originals}.{self.split.name}-{self.number:05d}"

    def is_made(self, out: Path) -> bool:
        """Say whether every file of the shard is committed."""
        return is_made(out, self.split, self.number, self.tasks, originals_published=self.originals_published)

    def seconds_left(self, out: Path) -> float:
        """Return how long the missing files will take, by the cost model."""
        return seconds_left(
            out, self.split, self.number, self.tasks, originals_published=self.originals_published
        )

    @property
    def files(self) -> int:
        """How many files the shard consists of: one for each config."""
        return (not self.originals_published) + sum(len(task.settings) for task in self.tasks)

    def files_made(self, out: Path) -> int:
        """Count the files that are committed."""
        return files_made(
            out, self.split, self.number, self.tasks, originals_published=self.originals_published
        )

    def bytes_left(self, out: Path) -> int:
        """Return a lower bound of the disk space that the missing files will take."""
        raw = 3 * self.split.pixels * len(self.split.shards[self.number])
        return int(raw * LEAST_SHARE * (self.files - self.files_made(out)))


def run_shard_jobs(run: RunContext, shard_jobs: Sequence[ShardJob], *, loose: bool = False) -> None:
    """Make every missing shard, each under its own lock; wait for those that other processes are making.

    The lock of a process that dies is free again, and another process makes its shard.

    Args:
        loose: go on where the file system has no locks, since no other process has these shards.
    Raises:
        AfbenchError: if a shard cannot be written.
    """
    has_reported = False
    while shard_jobs and not run.is_published():
        remaining = _make_unlocked(run, shard_jobs, loose=loose)
        if len(remaining) == len(shard_jobs):
            if not has_reported:
                workers = ", ".join(other_workers(run.out)) or "another process"
                run.say(f"waiting for {workers} to end {len(remaining)} shards")
            has_reported = True
            poll(run.is_published)
        shard_jobs = remaining


def _make_unlocked(run: RunContext, shard_jobs: Sequence[ShardJob], *, loose: bool) -> list[ShardJob]:
    """Make the shards that no other process is making; return the rest.

    While a shard is attacked, the samples of the next are read, and the end of the previous is written, under its lock.
    """
    remaining = []
    with (
        ExitStack() as previous_locks,
        threads(run.image_threads) as submit,
        writing(run.image_threads) as writer,
    ):
        io_threads = IoThreads(submit, writer)
        readings_ahead: dict[str, list[Future[Sample | BadSample]]] = {}
        for shard_job, next_job in zip_longest(shard_jobs, shard_jobs[1:]):
            reading = readings_ahead.pop(shard_job.name, None)
            with ExitStack() as own_locks:
                if not own_locks.enter_context(shard_lock(run.out, shard_job.name, loose=loose)):
                    remaining.append(shard_job)
                    continue
                # after an error, end the writing before the lock is free, or another process begins the same shard
                own_locks.push(lambda error_class, *details: writer.settle() if error_class else None)
                if not _is_missing(run, shard_job):
                    continue
                if reading is None:
                    reading = start_reading(shard_job.split, shard_job.number, submit)
                if run.image_threads and next_job and _is_missing(run, next_job):
                    readings_ahead[next_job.name] = start_reading(next_job.split, next_job.number, submit)
                pieces_before = writer.pieces
                run_shard(
                    run,
                    shard_job.split,
                    shard_job.number,
                    shard_job.tasks,
                    reading,
                    io_threads,
                    originals_published=shard_job.originals_published,
                )
                if writer.pieces > pieces_before:  # then the previous shard is written
                    previous_locks.close()
                    previous_locks.push(own_locks.pop_all())
    return remaining


def _is_missing(run: RunContext, shard_job: ShardJob) -> bool:
    # in this order: a publisher writes the list of files before it removes the records
    return not shard_job.is_made(run.out) and not run.is_published()
