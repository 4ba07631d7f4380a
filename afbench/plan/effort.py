"""What one image takes, pass by pass: where shards are cut, and how far a run is. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afbench.core import Setting

from .cost import CPU_GIGAFLOPS, GPU_GIGAFLOPS, KEEP_SECONDS, SHARD_SIZE, LocalizerCost
from .estimate import queries, shared_gradients

STAKE_SECONDS = 120.0
"""Most work that an interruption may cost, about: what a sharing group takes of one shard."""
CORES = 2
"""Of the machine that shards are cut for: not of this one, since all that share a folder must cut alike."""
MOST_SHARDS = 1000
"""Of one config and source: a folder of more files is no help to anybody, however slow the machine."""
TYPICAL = LocalizerCost(256, False, 80.0, 160.0, 9.0, 0)
"""Of a user's own localizer, of which nothing is published: as IF-OSN and PSCC-Net take."""


@dataclass(frozen=True)
class Effort:
    """Seconds of one image and localizer: a gradient, a look without one, and keeping what was made of it."""

    gradient: float
    forward: float
    keep: float

    def of_group(self, settings: Sequence[Setting]) -> float:
        """What one image takes under the settings of one sharing group, with the judging and keeping of the results."""
        forwards = sum(1 + queries(setting) for setting in settings)
        return (
            shared_gradients(settings) * self.gradient + forwards * self.forward + len(settings) * self.keep
        )


def effort_of(cost: LocalizerCost | None, pixels: int, device: str) -> Effort:
    """By the counts that ``afbench plan`` rests on; the same on every machine for a CPU, and for a GPU."""
    cost = cost or TYPICAL
    rate = GPU_GIGAFLOPS if device.startswith("cuda") else CPU_GIGAFLOPS * CORES
    return Effort(
        cost.gigaflops(pixels, gradients=1, forwards=0) / rate,
        cost.gigaflops(pixels, gradients=0, forwards=1) / rate,
        pixels * KEEP_SECONDS / CORES,
    )


def shard_size(seconds: float, samples: int) -> int:
    """Samples per shard so that a group of ``seconds`` a sample takes about two minutes of a shard, in equal parts.

    Where all ``samples`` take no longer it is the usual size. Never so small that there are more than ``MOST_SHARDS``.
    """
    fitting = max(1, int(STAKE_SECONDS / seconds)) if seconds else SHARD_SIZE
    fitting = max(fitting, -(-samples // MOST_SHARDS))
    if fitting >= min(samples, SHARD_SIZE):
        return SHARD_SIZE
    shards = -(-samples // fitting)
    return -(-samples // shards)
