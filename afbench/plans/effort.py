"""Estimate what one image takes, pass by pass: it decides where shards are cut and how far a run is. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afbench.core import Setting

from .cost import CPU_GIGAFLOPS, GPU_GIGAFLOPS, KEEP_SECONDS, SHARD_SIZE, LocalizerCost
from .estimate import queries, shared_gradients

STAKE_SECONDS = 120.0
"""About the most work that an interruption may cost: the time of one sharing group on one shard."""
CORES = 2
"""Cores of the machine that shards are cut for; not of this one, since all that share a folder must cut alike."""
MOST_SHARDS = 1000
"""Shards of one config and source: a folder of more files helps nobody, however slow the machine."""
TYPICAL = LocalizerCost(
    side=256, resizes=False, gigaflop_forward=80.0, gigaflop_gradient=160.0, kib_per_pixel=9.0, parameters=0
)
"""Cost assumed of a user's own localizer, for which nothing is published: about that of IF-OSN and PSCC-Net."""


@dataclass(frozen=True)
class Effort:
    """Seconds of one image and localizer: of a gradient, of a forward pass, and of encoding and comparing a result."""

    gradient: float
    forward: float
    keep: float

    def of_group(self, settings: Sequence[Setting]) -> float:
        """Sum the seconds of one image under one sharing group's settings, with judging and encoding the results."""
        forwards = sum(1 + queries(setting) for setting in settings)
        return (
            shared_gradients(settings) * self.gradient + forwards * self.forward + len(settings) * self.keep
        )


def effort_of(cost: LocalizerCost | None, pixels: int, device: str) -> Effort:
    """Estimate the effort from the costs that ``afbench plan`` uses; the same on every machine for a CPU, and for a GPU."""
    cost = cost or TYPICAL
    rate = GPU_GIGAFLOPS if device.startswith("cuda") else CPU_GIGAFLOPS * CORES
    return Effort(
        cost.gigaflops(pixels, gradients=1, forwards=0) / rate,
        cost.gigaflops(pixels, gradients=0, forwards=1) / rate,
        pixels * KEEP_SECONDS / CORES,
    )


def shard_size(seconds: float, samples: int) -> int:
    """Choose the samples per shard so that a group of ``seconds`` per sample takes about two minutes for one shard.

    Shards get equal parts. The usual size holds where all ``samples`` take no longer; no size makes more than
    ``MOST_SHARDS`` shards.
    """
    fitting = max(1, int(STAKE_SECONDS / seconds)) if seconds else SHARD_SIZE
    fitting = max(fitting, -(-samples // MOST_SHARDS))
    if fitting >= min(samples, SHARD_SIZE):
        return SHARD_SIZE
    # in equal parts: otherwise the last shard could be a single sample
    shards = -(-samples // fitting)
    return -(-samples // shards)
