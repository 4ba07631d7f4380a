"""Decide how wide a table is printed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_NARROW = 80


def wide_option(command: F) -> F:
    """Add ``--wide`` to a command that prints a table."""
    return click.option("--wide", is_flag=True, help="Print tables in one piece, however wide.")(command)


def table_width(wide: bool) -> int | None:
    """Return the letters a line may have: 80, or the width of a broader terminal; None for ``--wide``."""
    if wide:
        return None
    return max(_NARROW, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0)
