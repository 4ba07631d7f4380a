"""Name the one checkpoint that is no file: untrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

RANDOM: Literal["random"] = "random"
"""What users write for untrained weights, which are for speed tests; every manifest records them."""


def is_untrained(checkpoint: object) -> bool:
    """Return whether a checkpoint means untrained weights; a ``Path`` of that name is a file."""
    return isinstance(checkpoint, str) and checkpoint == RANDOM


def recorded_checkpoint(identity: Mapping[str, Any], checkpoint: str | None) -> str | None:
    """Return what to load a localizer from that a manifest records: ``checkpoint``, or untrained weights where those were attacked."""
    return checkpoint or (RANDOM if identity["untrained"] else None)
