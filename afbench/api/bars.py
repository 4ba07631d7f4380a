"""Show progress the same way everywhere: on stderr or as a widget, with an ETA, rarely redrawn in logs."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from afbench.interrupts import raise_if_stopped
from afbench.untrusted import visible
from afbench.work_progress import Progress

_log = logging.getLogger(__name__)


def progress_bar(description: str, unit: str, total: int | None = None, *, quiet: bool = False) -> Any:
    """Return a bar on stderr, or a widget in a notebook, redrawn every half second where somebody watches and every 30 s in a log.

    Read no result from it: with ``quiet`` or TQDM_DISABLE it counts nothing.
    """
    # here, for it takes time to import and not every command shows progress
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # a notebook without ipywidgets gets bars of text, which is no mistake of its user
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    terminal = sys.stderr.isatty()
    # tqdm reads TQDM_DISABLE itself, unless it is given a value
    disabled: dict[str, Any] = {"disable": True} if quiet else {}
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        # a log keeps every redraw as a line
        mininterval=0.5 if terminal or _in_notebook() else 30.0,
        dynamic_ncols=terminal,
        **disabled,
    )


def _in_notebook() -> bool:
    return type(sys.stderr).__module__.partition(".")[0] == "ipykernel"


def advancing(bar: Any) -> Callable[[int], None]:
    """Return a function that moves a bar by a number."""

    def advance(number: int) -> None:
        _raise_pending_interrupt()
        bar.update(number)

    return advance


def _raise_pending_interrupt() -> None:
    """Raise an interrupt that a destructor or a library caught and lost."""
    if threading.current_thread() is threading.main_thread():
        raise_if_stopped()


def deferred_bar(stack: ExitStack, description: str, unit: str, *, quiet: bool = False) -> Progress:
    """Return a bar that appears when it is started and closes with the stack."""
    bars: list[Any] = []

    def start(total: int, done: int = 0) -> None:
        bar = stack.enter_context(progress_bar(description, unit, total, quiet=quiet))
        bar.initial = bar.n = done  # so that the ETA counts the remaining work only
        bars.append(bar)

    def advance(number: int) -> None:
        _raise_pending_interrupt()
        bars[-1].update(number)

    def say(line: str) -> None:
        # a function that is to be quiet prints nothing, and a command prints what is logged
        if quiet:
            _log.info("%s", visible(line))
        else:
            bars[-1].write(visible(line), file=sys.stderr)

    return Progress(start, advance, say)


def counted_bar(
    stack: ExitStack, description: str, unit: str, *, quiet: bool = False
) -> Callable[[int, int], None]:
    """Return a function of (done, total) that opens a bar at its first call and closes it when all are done; it can be reused."""
    bars: list[Any] = []
    counted = 0

    def advance(done: int, total: int) -> None:
        nonlocal counted
        _raise_pending_interrupt()
        if not bars:
            bars.append(stack.enter_context(progress_bar(description, unit, total, quiet=quiet)))
            counted = 0
        bars[-1].update(done - counted)
        counted = done
        if done == total:
            bars.pop().close()

    return advance
