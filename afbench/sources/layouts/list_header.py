"""The header line of a list: it says which column holds the image, which its mask, and which a label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from afbench.core import UsageError

_MASK = re.compile(r".*(mask|groundtruth).*|gt.*|.*gt")
_LABEL = re.compile(r".*label.*|class")
_OTHER = re.compile(r".*(orig|authentic|pristine|donor).*")
"""Columns of another image, to which the mask does not belong."""
_IMAGE = re.compile(
    r".*(image|img|photo|picture).*|(input|forged|forgery|tampered|fake|probe)?(path|filename|filepath|file|name)?"
)


class Columns(NamedTuple):
    """Positions among ``total`` columns; ``label`` is None without a column of labels."""

    image: int
    mask: int
    label: int | None
    total: int

    @property
    def in_order(self) -> bool:
        """Tell whether the columns begin with image and mask, like a list without a header."""
        return (self.image, self.mask) == (0, 1)


def read_header(name: str, fields: Sequence[str]) -> Columns | None:
    """Read the columns that a first line names; None if it names none and is a sample.

    Raises:
        UsageError: if it names several columns of images or of masks.
    """
    # a file name, so this line is a sample and no header
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
