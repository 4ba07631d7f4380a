"""The one way to listen to work that takes long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Progress(NamedTuple):
    """Where a caller listens: ``start(total, done)`` once the amount of work is known (``done`` only where some was done
    before), ``advance(amount)`` for what was just done, and ``say(line)``.
    """

    start: Callable[..., None] = lambda total, done=0: None
    advance: Callable[[int], None] = lambda amount: None
    say: Callable[[str], None] = lambda line: None


@dataclass
class WorkPiece:
    """A piece of work that counts with its planned size, also if parts of it are done twice (a batch that was halved) or
    never (a sample that cannot be read, gradients of ``strong`` after F1 is 0)."""

    advance: Callable[[float], None]
    remaining: float

    def add(self, amount: float) -> None:
        """Count part of the piece as done."""
        step = min(amount, self.remaining)
        self.remaining -= step
        self.advance(step)

    def finish(self) -> None:
        """Count the rest of the piece as done."""
        self.add(self.remaining)


OpenProgress = Callable[[str, str], Progress]
"""Opens the progress of one stage of the work, from its name and the unit that it counts."""


def unheard(name: str, unit: str) -> Progress:
    """Open a progress that nobody listens to."""
    return Progress()
