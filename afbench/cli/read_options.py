"""Options of every command that reads a user's copy of a source: how its pixels are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from afbench.core import LEAST_MAX_SIDE, MOST_MAX_SIDE

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--mask-threshold",
        type=click.IntRange(0, 254),
        metavar="N",
        help="Masks: what is above grey level N is white. Default: what the source's own rule says, mostly 127.",
    ),
    click.option(
        "--mask-nonzero", is_flag=True, help="Masks: what is not black is white (0 and 1, palettes, colours)."
    ),
    click.option("--ignore-alpha", is_flag=True, help="Drop transparency instead of excluding the sample."),
    click.option(
        "--max-side",
        type=click.IntRange(LEAST_MAX_SIDE, MOST_MAX_SIDE),
        metavar="N",
        help="Make images whose longer side is above N pixels smaller, antialiased, and their masks by nearest pixel; recorded.",
    ),
)


def read_options(function: F) -> F:
    """Add the options ``mask_threshold``, ``mask_nonzero``, ``ignore_alpha`` and ``max_side``."""
    # click lists the option that was added last first
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
