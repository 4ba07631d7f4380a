"""What is known of an image before it is decoded, and what every kind of storage must be able to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from afbench.core import ByteImage
from afbench.storage.shards import check_row

FACTS = ("sample_id", "group", "source", "height", "width", "image_sha256", "mask_sha256")
"""Columns of every config that a ``Row`` is made of; attacked ones have ``original_sha256`` too."""


@dataclass(frozen=True)
class Row:
    """One image of one config.

    ``place`` says where its storage keeps it: file, and two numbers of the storage's own; ``mask_place`` two more of its mask.
    Hashes are of decoded pixels; ``original_sha256`` is the image's own where nobody attacked it.
    """

    sample_id: str
    group: str
    source: str
    config: str
    height: int
    width: int
    image_sha256: str
    mask_sha256: str
    original_sha256: str
    place: tuple[str, int, int]
    mask_place: tuple[int, int] = (0, 0)


class Store(Protocol):
    """Reads one benchmark or archive; keeps no file open, and so may go to other processes."""

    @property
    def configs(self) -> Mapping[str, Mapping[str, Any]]: ...
    def rows(self, config: str, split: str) -> Sequence[Row]: ...
    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage: ...
    def mask(self, row: Row) -> ByteImage: ...
    def holds_images(self, config: str, split: str) -> bool: ...


def make_row(
    facts: Mapping[str, Any],
    config: str,
    place: tuple[str, int, int],
    mask_place: tuple[int, int] = (0, 0),
) -> Row:
    """A ``Row`` of the columns named by ``FACTS``.

    Raises:
        AfbenchError: if one of them is to be a name and is none.
    """
    check_row(facts)
    return Row(
        **{name: facts[name] for name in FACTS},
        config=config,
        original_sha256=facts.get("original_sha256") or facts["image_sha256"],
        place=place,
        mask_place=mask_place,
    )
