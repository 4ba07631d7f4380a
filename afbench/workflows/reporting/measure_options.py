"""Say what a report measures itself. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EXAMPLES = 3
"""Images whose masks are drawn."""


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What a report measures itself: ``images`` of every source, behind ``defences`` (None: what ships for the localizer).

    ``localizer`` is the user's own that was attacked, ``my_package.my_module:build``.
    """

    images: int = 48
    defences: Sequence[str] | None = None
    localizer: str | None = None
    checkpoint: str | None = None
    device: str = "cpu"
