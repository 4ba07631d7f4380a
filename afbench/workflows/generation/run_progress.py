"""Count the progress of a run in gradients; forward passes and the encoding of images count as fractions of one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class GradientCounter:
    """Turns seconds of the cost model into whole gradients of ``seconds`` each and passes them to ``advance``; thread-safe."""

    seconds: float
    advance: Callable[[int], None]
    done: float = 0.0
    reported: int = 0
    logged: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def add(self, seconds: float) -> None:
        """Add work that was done, and report the gradients it completes."""
        with self._lock:
            self.done += seconds / self.seconds
            # a sum of floats may end just below the whole number it stands for
            step = int(self.done + 1e-6) - self.reported
            self.reported += step
            self.advance(step)

    def unlogged(self) -> int:
        """Return the whole gradients since the last call, for the log that a parent process follows."""
        with self._lock:
            step = self.reported - self.logged
            self.logged = self.reported
            return step
