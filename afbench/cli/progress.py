"""Show progress the same way in every command: on stderr, with an ETA, rarely redrawn in logs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import click
from tqdm import tqdm

from afbench.interrupts import raise_if_stopped
from afbench.untrusted import visible
from afbench.work_progress import Progress

F = TypeVar("F", bound=Callable[..., Any])
_QUIET = f"{__name__}.quiet"


def quiet_option(command: F) -> F:
    """Add ``--quiet``: every command that shows progress takes it, and ``afbench`` itself before the command's name."""
    return click.option(
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember_quiet,
        help="Show no progress bar; warnings stay.",
    )(command)


def _remember_quiet(context: click.Context, parameter: click.Parameter, quiet: bool) -> None:
    context.meta[_QUIET] = quiet or is_quiet()


def is_quiet() -> bool:
    """Return whether the running command was asked to show no progress."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def progress_bar(description: str, unit: str, total: int | None = None, *, quiet: bool | None = None) -> Any:
    """Return a bar on stderr, redrawn every half second on a terminal and every 30 s in a log.

    Read no result from it: with ``--quiet`` or TQDM_DISABLE it counts nothing.
    """
    watched = sys.stderr.isatty()
    # tqdm reads TQDM_DISABLE itself, unless it is given a value
    disabled: dict[str, Any] = {"disable": True} if (is_quiet() if quiet is None else quiet) else {}
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        # a log keeps every redraw as a line
        mininterval=0.5 if watched else 30.0,
        dynamic_ncols=watched,
        **disabled,
    )


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


def deferred_bar(stack: ExitStack, description: str, unit: str) -> Progress:
    """Return a bar that appears when it is started and closes with the stack."""
    bars: list[Any] = []
    quiet = is_quiet()  # read it here: work may start in a thread that has no click context

    def start(total: int, done: int = 0) -> None:
        bar = stack.enter_context(progress_bar(description, unit, total, quiet=quiet))
        bar.initial = bar.n = done  # so that the ETA counts the remaining work only
        bars.append(bar)

    def advance(number: int) -> None:
        _raise_pending_interrupt()
        bars[-1].update(number)

    def say(line: str) -> None:
        bars[-1].write(visible(line), file=sys.stderr)

    return Progress(start, advance, say)


def counted_bar(stack: ExitStack, description: str, unit: str) -> Callable[[int, int], None]:
    """Return a function of (done, total) that opens a bar at its first call and closes it when all are done; it can be reused."""
    bars: list[Any] = []
    counted = 0
    quiet = is_quiet()

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
