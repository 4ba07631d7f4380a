"""Time two sides fairly: turn by turn, so that whatever else the machine does hits both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median, quantiles

import torch


@dataclass(frozen=True)
class Clock:
    """Seconds of a piece of work on a device; ``processor`` counts the process's own time, not that of its neighbours."""

    device: str = "cpu"
    processor: bool = False

    def now(self) -> float:
        return time.process_time() if self.processor else time.perf_counter()

    def __call__(self, work: Callable[[], object]) -> float:
        self.wait()
        started = self.now()
        work()
        self.wait()
        return self.now() - started

    def wait(self) -> None:
        """Let a GPU finish what it was given."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Paired:
    """Seconds of ours and of theirs, run by run."""

    ours: list[float]
    theirs: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times longer theirs took, of runs next to each other."""
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def __add__(self, other: Paired) -> Paired:
        """Run by run: both kinds of work, one after the other."""
        return Paired(_sums(self.ours, other.ours), _sums(self.theirs, other.theirs))


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], *, clock: Clock, repeats: int, warm: bool = True
) -> Paired:
    """Time both sides ``repeats`` times, each first every second time, after one run of both that warms up."""
    if warm:
        ours(), theirs()
    found: tuple[list[float], list[float]] = [], []
    for run in range(repeats):
        for side in (0, 1) if run % 2 else (1, 0):
            found[side].append(clock((ours, theirs)[side]))
    return Paired(*found)


def middle(values: list[float], digits: int = 3) -> str:
    """Median with the 5 to 95 % spread."""
    if len(values) < 2:
        return f"{values[0]:.{digits}g}"
    parts = quantiles(values, n=20, method="inclusive")
    return f"{median(values):.{digits}g} ({parts[0]:.{digits}g}-{parts[-1]:.{digits}g})"


def _sums(first: list[float], second: list[float]) -> list[float]:
    return [one + other for one, other in zip(first, second, strict=True)]
