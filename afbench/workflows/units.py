"""The shards of a plan, one by one, beside other processes that make them too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afbench.storage.locks import others_at_work, poll, unit

from .splits import Split
from .work import Run, Task, run_shard


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


def run_units(run: Run, units: Sequence[Unit]) -> None:
    """Make every shard that is missing, each under a lock of its own; wait for those that others are making.

    Whoever dies leaves its lock free, and its shard to the others.

    Raises:
        AfbenchError: if a shard cannot be written.
    """
    told = False
    while units and not run.is_published():
        left = []
        for one in units:
            with unit(run.out, one.name) as ours:
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
