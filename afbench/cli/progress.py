"""One progress bar for every command: stderr, with an ETA, sparse where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

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
