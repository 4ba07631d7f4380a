"""The entry of one sample: its files and labels, before any pixel is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from afbench.core import ReadOptions

Label = Literal["forged", "authentic"]
OnMismatch = Literal["exclude", "resize-nearest"]


@dataclass(frozen=True)
class SourceEntry:
    """An image of a release with its masks and labels; paths are relative to the root, with forward slashes.

    ``rule`` names how its masks are read (``mask_rules.MASK_RULES``, perhaps with ``INVERTED`` behind it). Samples of one ``group`` stay on one side of a split.
    ``problem`` is a reason for exclusion that the file names already show; such an entry is never opened. ``user_masks``: a user, not a
    release, says which file is a mask, so a photograph may have got there.
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
    user_masks: bool = False


@dataclass(frozen=True)
class SourceOptions:
    """What a user may choose when reading a source; recorded in its index.

    ``on_mismatch``: what to do with a mask of another size than its image. ``invert``: swap forged and authentic in
    every mask. ``authentic``: list authentic images too. ``read``: how pixels are read.
    """

    on_mismatch: OnMismatch = "exclude"
    invert: bool = False
    authentic: bool = False
    read: ReadOptions = ReadOptions()  # noqa: RUF009 - frozen

    def as_json(self) -> dict[str, Any]:
        """Return the options as an index stores them, which leaves out the default way to read pixels."""
        source_choices = {"on_mismatch": self.on_mismatch, "invert": self.invert, "authentic": self.authentic}
        return source_choices | self.read.as_json()

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> SourceOptions:
        """Read what ``as_json`` returned."""
        source_choices = {key: value[key] for key in ("on_mismatch", "invert", "authentic")}
        return SourceOptions(
            **source_choices,
            read=ReadOptions.from_json({key: value[key] for key in value.keys() - source_choices}),
        )


Layout: TypeAlias = Callable[[Sequence[str]], list[SourceEntry]]
"""Turns all files below a root (sorted relative paths with forward slashes) into the entries of a release; none if the
root holds another release."""
