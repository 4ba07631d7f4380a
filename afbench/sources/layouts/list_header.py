"""The header line of a list: which column holds the image, which its mask, and which a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from afbench.core import UsageError

_MASK = re.compile(r".*(mask|groundtruth).*|gt.*|.*gt")
_LABEL = re.compile(r".*label.*|class")
_OTHER = re.compile(r".*(orig|authentic|pristine|donor).*")
"""Columns of a further image, which is not the one that the mask belongs to."""
_IMAGE = re.compile(
    r".*(image|img|photo|picture).*|(input|forged|forgery|tampered|fake|probe)?(path|filename|filepath|file|name)?"
)


class Columns(NamedTuple):
    """Positions among ``total`` columns; ``label`` is None where no column says so."""

    image: int
    mask: int
    label: int | None
    total: int

    @property
    def in_order(self) -> bool:
        """Whether the columns begin as a list without a header does: image, then mask."""
        return (self.image, self.mask) == (0, 1)


def read_header(name: str, fields: Sequence[str]) -> Columns | None:
    """The columns a first line names; None if it names none, so that it is a sample.

    Raises:
        UsageError: if it names several columns of images or of masks.
    """
    if any(re.search(r"[./\\]", field) for field in fields):
        return None
    roles = [_role(field) for field in fields]
    if "image" not in roles or "mask" not in roles:
        return None
    for role in ("image", "mask"):
        if roles.count(role) > 1:
            column_names = " and ".join(
                repr(field)
                for field, role_of_field in zip(fields, roles, strict=True)
                if role_of_field == role
            )
            raise UsageError(
                f"list {name!r}: its header names several columns of {role}s ({column_names}); keep one"
            )
    label = roles.index("label") if roles.count("label") == 1 else None
    return Columns(roles.index("image"), roles.index("mask"), label, len(fields))


def _role(field: str) -> str:
    word = re.sub(r"[^a-z0-9]", "", field.lower())
    for role, pattern in (("mask", _MASK), ("label", _LABEL), ("other", _OTHER), ("image", _IMAGE)):
        if word and pattern.fullmatch(word):
            return role
    return ""
