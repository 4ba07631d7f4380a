"""Time two sides fairly: turn by turn, so that whatever else the machine does hits both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        start = self.now()
        work()
        self.wait()
        return self.now() - start

    def wait(self) -> None:
        """Let a GPU finish its queued work."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Paired:
    """Seconds of ours and of theirs, run by run."""

    afbench: list[float]
    peer: list[float]

    @property
    def ratios(self) -> list[float]:
        """How many times longer the peer took, in neighbouring runs."""
        return [
            peer_seconds / afbench_seconds
            for afbench_seconds, peer_seconds in zip(self.afbench, self.peer, strict=True)
        ]

    def __add__(self, addend: Paired) -> Paired:
        """Add the seconds run by run: both kinds of work, one after the other."""
        return Paired(_sums(self.afbench, addend.afbench), _sums(self.peer, addend.peer))


@contextmanager
def any_kernels() -> Iterator[None]:
    """Let another library use kernels that do not give the same bytes again: its users ask for none, and its losses have none."""
    previous = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(previous)


def paired(
    run_afbench: Callable[[], object],
    run_peer: Callable[[], object],
    *,
    clock: Clock,
    repeats: int,
    warm: bool = True,
) -> Paired:
    """Time both sides ``repeats`` times, taking turns at being first, after one run of both that warms up."""
    if warm:
        run_afbench(), run_peer()
    times: tuple[list[float], list[float]] = [], []
    for run in range(repeats):
        for side in (0, 1) if run % 2 else (1, 0):
            times[side].append(clock((run_afbench, run_peer)[side]))
    return Paired(*times)


def middle(values: list[float], digits: int = 3) -> str:
    """Write the median with the 5 to 95 % spread."""
    if len(values) < 2:
        return f"{values[0]:.{digits}g}"
    parts = quantiles(values, n=20, method="inclusive")
    return f"{median(values):.{digits}g} ({parts[0]:.{digits}g}-{parts[-1]:.{digits}g})"


def _sums(first: list[float], second: list[float]) -> list[float]:
    return [a + b for a, b in zip(first, second, strict=True)]
