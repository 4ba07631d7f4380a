"""The shards of a plan, one by one, beside other processes that make them too."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from afbench.core import BadSample, Sample
from afbench.engine.io_pool import threads, writing
from afbench.plan.estimate import LEAST_SHARE
from afbench.storage.locks import other_workers, poll, unit

from .shard_run import Beside, Run, run_shard, start_reading
from .splits import Split
from .tasks import Task, files_made, is_made, seconds_left


@dataclass(frozen=True)
class Unit:
    """One shard of a split's samples: its originals, and all that attacks make of them."""

    split: Split
    number: int
    tasks: Sequence[Task]
    originals_published: bool

    @property
    def name(self) -> str:
        return f"{self.split.originals}.{self.split.name}-{self.number:05d}"

    def is_made(self, out: Path) -> bool:
        """True if nothing of it is missing."""
        return is_made(out, self.split, self.number, self.tasks, originals_published=self.originals_published)

    def seconds_left(self, out: Path) -> float:
        """What is missing of it takes, by the cost model."""
        return seconds_left(
            out, self.split, self.number, self.tasks, originals_published=self.originals_published
        )

    @property
    def files(self) -> int:
        """How many files it is to have: of each config one."""
        return (not self.originals_published) + sum(len(task.settings) for task in self.tasks)

    def files_made(self, out: Path) -> int:
        """How many of them are committed."""
        return files_made(
            out, self.split, self.number, self.tasks, originals_published=self.originals_published
        )

    def bytes_left(self, out: Path) -> int:
        """What is missing of it will take at least on the disk."""
        raw = 3 * self.split.pixels * len(self.split.shards[self.number])
        return int(raw * LEAST_SHARE * (self.files - self.files_made(out)))


def run_units(run: Run, units: Sequence[Unit], *, loose: bool = False) -> None:
    """Make every shard that is missing, each under a lock of its own; wait for those that others are making.

    Whoever dies leaves its lock free, and its shard to the others. ``loose`` is for shards nobody else was told to make:
    they are made also where the file system has no locks.

    Raises:
        AfbenchError: if a shard cannot be written.
    """
    told = False
    while units and not run.is_published():
        left = _pass(run, units, loose=loose)
        if len(left) == len(units):
            if not told:
                who = ", ".join(other_workers(run.out)) or "another process"
                run.say(f"waiting for {who} to end {len(left)} shards")
            told = True
            poll(run.is_published)
        units = left


def _pass(run: Run, units: Sequence[Unit], *, loose: bool) -> list[Unit]:
    """Make what nobody else is making; returns the rest.

    While one is attacked, the samples of the next are read, and the end of the one before is written, under its lock.
    """
    left = []
    with ExitStack() as before, threads(run.image_threads) as submit, writing(run.image_threads) as writer:
        beside = Beside(submit, writer)
        ahead: dict[str, list[Future[Sample | BadSample]]] = {}
        for one, following in zip_longest(units, units[1:]):
            reading = ahead.pop(one.name, None)
            with ExitStack() as ours:
                if not ours.enter_context(unit(run.out, one.name, loose=loose)):
                    left.append(one)
                    continue
                # nobody else shall begin what is still being written here
                ours.push(lambda failed, *told: writer.settle() if failed else None)
                if not _is_missing(run, one):
                    continue
                if reading is None:
                    reading = start_reading(one.split, one.number, submit)
                if run.image_threads and following and _is_missing(run, following):
                    ahead[following.name] = start_reading(following.split, following.number, submit)
                pieces = writer.pieces
                run_shard(
                    run,
                    one.split,
                    one.number,
                    one.tasks,
                    reading,
                    beside,
                    originals_published=one.originals_published,
                )
                if writer.pieces > pieces:  # then all before is written
                    before.close()
                    before.push(ours.pop_all())
    return left


def _is_missing(run: Run, one: Unit) -> bool:
    # in this order: the list of files is written before the records are removed
    return not one.is_made(run.out) and not run.is_published()
