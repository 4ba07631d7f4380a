"""One sample as it lies on disk, before any pixel is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Label = Literal["forged", "authentic"]
OnMismatch = Literal["exclude", "resize-nearest"]


@dataclass(frozen=True)
class Entry:
    """An image of a release and what belongs to it; paths are relative to the root, with forward slashes.

    ``rule`` names how its masks are read (``masks.MASK_RULES``). ``group`` names what must stay on one side of a split.
    ``problem`` is a reason for exclusion that the names alone give away; such an entry is never opened.
    """

    sample_id: str
    image: str | None
    masks: tuple[str, ...] = ()
    rule: str = "white"
    label: Label = "forged"
    group: str = ""
    kind: str = ""
    problem: str = ""
    detail: str = ""


@dataclass(frozen=True)
class SourceOptions:
    """Choices a source leaves to its user; recorded in its index.

    ``on_mismatch``: what to do with a mask of another size than its image. ``invert``: swap forged and authentic in
    every mask. ``authentic``: list authentic images too.
    """

    on_mismatch: OnMismatch = "exclude"
    invert: bool = False
    authentic: bool = False


Layout: TypeAlias = Callable[[Sequence[str]], list[Entry]]
"""All files below a root, sorted, relative with forward slashes, to the entries of a release; empty if it is another
release."""
