"""The shards of a plan, one by one, beside other processes that make them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afbench.storage.locks import others_at_work, poll, unit

from .splits import Split
from .work import Run, Task, gradients_left, is_made, run_shard


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

    def gradients_left(self, out: Path) -> int:
        """Image gradients (and queries) that it still takes."""
        return sum(gradients_left(out, task, self.number) for task in self.tasks)


def run_units(run: Run, units: Sequence[Unit], *, loose: bool = False) -> None:
    """Make every shard that is missing, each under a lock of its own; wait for those that others are making.

    Whoever dies leaves its lock free, and its shard to the others. ``loose`` is for shards nobody else was told to make:
    they are made also where the file system has no locks.

    Raises:
        AfbenchError: if a shard cannot be written.
    """
    told = False
    while units and not run.is_published():
        left = []
        for one in units:
            with unit(run.out, one.name, loose=loose) as ours:
                if ours:
                    run_shard(
                        run,
                        one.split,
                        one.number,
                        one.tasks,
                        originals_published=one.originals_published,
                    )
                else:
                    left.append(one)
        if len(left) == len(units):
            if not told:
                who = ", ".join(others_at_work(run.out)) or "another process"
                run.say(f"waiting for {who} to end {len(left)} shards")
            told = True
            poll(run.is_published)
        units = left
