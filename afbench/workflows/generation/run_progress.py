"""How far a run is: work in gradients, in which looks without one and the keeping of images count as their share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

Did = Callable[[float], None]
"""Told of work that was just done, in seconds of the cost model."""


@dataclass
class Headway:
    """Turns seconds of the cost model into whole gradients of ``seconds`` each, and tells ``advance`` of them; from any thread."""

    seconds: float
    advance: Callable[[int], None]
    done: float = 0.0
    told: int = 0
    logged: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def did(self, seconds: float) -> None:
        """Add work that was done."""
        with self._lock:
            self.done += seconds / self.seconds
            step = int(self.done + 1e-6) - self.told
            self.told += step
            self.advance(step)

    def unlogged(self) -> int:
        """Whole gradients since the last call: what a log tells those who follow it."""
        with self._lock:
            step = self.told - self.logged
            self.logged = self.told
            return step


@dataclass
class Piece:
    """A piece of work of a known size, so that what is done twice (a launch that was halved) or never (a sample that
    cannot be read) counts once."""

    did: Did
    left: float

    def add(self, seconds: float) -> None:
        """Count some of it."""
        step = min(seconds, self.left)
        self.left -= step
        self.did(step)

    def finish(self) -> None:
        """Count the rest."""
        self.add(self.left)
