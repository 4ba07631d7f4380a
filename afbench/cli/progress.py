"""One progress bar for every command: stderr, with an ETA, sparse where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

from tqdm import tqdm


def progress_bar(description: str, unit: str, total: int | None = None) -> Any:
    """A bar on stderr; redrawn every half second on a terminal, every 30 s in a log."""
    watched = sys.stderr.isatty()
    return tqdm(
        desc=description, unit=unit, total=total, mininterval=0.5 if watched else 30.0, dynamic_ncols=watched
    )


def advancing(bar: Any) -> Callable[[int], None]:
    """Move a bar by a number, for callers that want no result."""

    def advance(number: int) -> None:
        bar.update(number)

    return advance


class Bar(NamedTuple):
    """``start(total, done=0)``, ``advance(number)`` and ``say(line)`` of a bar that is shown once the work is known."""

    start: Callable[..., None]
    advance: Callable[[int], None]
    say: Callable[[str], None]


def deferred_bar(stack: ExitStack, description: str, unit: str) -> Bar:
    """A bar from the moment it is started; it is closed with the stack."""
    bars: list[Any] = []

    def start(total: int, done: int = 0) -> None:
        bar = stack.enter_context(progress_bar(description, unit, total))
        bar.initial = bar.n = done  # so that the time left is that of what is left
        bars.append(bar)

    def advance(number: int) -> None:
        bars[-1].update(number)

    def say(line: str) -> None:
        bars[-1].write(line, file=sys.stderr)

    return Bar(start, advance, say)


def counted_bar(stack: ExitStack, description: str, unit: str) -> Callable[[int, int], None]:
    """A bar told how many are done, of how many, from the first on; it is closed with the last, and another may follow."""
    bars: list[Any] = []

    def advance(done: int, total: int) -> None:
        if not bars:
            bars.append(stack.enter_context(progress_bar(description, unit, total)))
        bars[-1].update(done - bars[-1].n)
        if done == total:
            bars.pop().close()

    return advance
