"""The option ``--quiet``, and the progress bars of commands that obey it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

import click

from afbench.api import bars
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


def progress_bar(description: str, unit: str, total: int | None = None) -> Any:
    """Return a bar as ``bars.progress_bar``."""
    return bars.progress_bar(description, unit, total, quiet=is_quiet())


def deferred_bar(stack: ExitStack, description: str, unit: str) -> Progress:
    """Return a bar as ``bars.deferred_bar``."""
    # read it here: work may start in a thread that has no click context
    return bars.deferred_bar(stack, description, unit, quiet=is_quiet())


def counted_bar(stack: ExitStack, description: str, unit: str) -> Callable[[int, int], None]:
    """Return a function as ``bars.counted_bar``."""
    return bars.counted_bar(stack, description, unit, quiet=is_quiet())
