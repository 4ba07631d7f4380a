"""One progress bar for every command: stderr, with an ETA, sparse where nobody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple, TypeVar

import click
from tqdm import tqdm

from afbench.interrupts import raise_if_stopped
from afbench.untrusted import visible

F = TypeVar("F", bound=Callable[..., Any])
_QUIET = f"{__name__}.quiet"


def quiet_option(command: F) -> F:
    """Add ``--quiet``, which every command that shows progress takes, as does ``afbench`` before the command's name."""
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
    """Whether the command that runs was asked for no progress."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_QUIET))


def progress_bar(description: str, unit: str, total: int | None = None, *, quiet: bool | None = None) -> Any:
    """A bar on stderr; redrawn every half second on a terminal, every 30 s in a log.

    No result may be read from it: with ``--quiet`` or TQDM_DISABLE it counts nothing.
    """
    watched = sys.stderr.isatty()
    # tqdm reads TQDM_DISABLE itself, unless it is given a value
    disabled: dict[str, Any] = {"disable": True} if (is_quiet() if quiet is None else quiet) else {}
    return tqdm(
        desc=description,
        unit=unit,
        total=total,
        mininterval=0.5 if watched else 30.0,
        dynamic_ncols=watched,
        **disabled,
    )


def advancing(bar: Any) -> Callable[[int], None]:
    """Move a bar by a number, for callers that want no result."""

    def advance(number: int) -> None:
        _go_on()
        bar.update(number)

    return advance


def _go_on() -> None:
    """Raise here the interrupt that hit a destructor or a library that lost it."""
    if threading.current_thread() is threading.main_thread():
        raise_if_stopped()


class Bar(NamedTuple):
    """``start(total, done=0)``, ``advance(number)`` and ``say(line)`` of a bar that is shown once the work is known."""

    start: Callable[..., None]
    advance: Callable[[int], None]
    say: Callable[[str], None]


def deferred_bar(stack: ExitStack, description: str, unit: str) -> Bar:
    """A bar from the moment it is started; it is closed with the stack."""
    bars: list[Any] = []
    quiet = is_quiet()  # asked here: work may start in a thread that has no click context

    def start(total: int, done: int = 0) -> None:
        bar = stack.enter_context(progress_bar(description, unit, total, quiet=quiet))
        bar.initial = bar.n = done  # so that the time left is that of what is left
        bars.append(bar)

    def advance(number: int) -> None:
        _go_on()
        bars[-1].update(number)

    def say(line: str) -> None:
        bars[-1].write(visible(line), file=sys.stderr)

    return Bar(start, advance, say)


def counted_bar(stack: ExitStack, description: str, unit: str) -> Callable[[int, int], None]:
    """A bar told how many are done, of how many, from the first on; it is closed with the last, and another may follow."""
    bars: list[Any] = []
    shown = 0
    quiet = is_quiet()

    def advance(done: int, total: int) -> None:
        nonlocal shown
        _go_on()
        if not bars:
            bars.append(stack.enter_context(progress_bar(description, unit, total, quiet=quiet)))
            shown = 0
        bars[-1].update(done - shown)
        shown = done
        if done == total:
            bars.pop().close()

    return advance
