"""The interface of a store of images, and a stored image before it is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from afbench.core import ByteImage
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.schema import check_row

ROW_COLUMNS = ("sample_id", "group", "source", "height", "width", "image_sha256", "mask_sha256")
"""Columns of every config that a ``Row`` is made of; attacked ones have ``original_sha256`` too."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image of one config.

    ``location`` says where its storage keeps it: a file and two numbers that the storage understands; ``mask_location`` are
    two such numbers of its mask, ``checksums`` the CRC-32 of both where their storage has one. ``residual`` is true where the difference from the original lies there in place of the
    image. Hashes are of decoded pixels; ``original_sha256`` is the image's own where nobody attacked it.
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
    location: tuple[str, int, int]
    mask_location: tuple[int, int] = (0, 0)
    residual: bool = False
    checksums: tuple[int | None, int | None] = (None, None)


class Store(Protocol):
    """Reads one benchmark or archive; keeps no file open, and so may go to other processes."""

    @property
    def configs(self) -> Mapping[str, ConfigManifest]: ...
    def rows(self, config: str, split: str) -> Sequence[Row]: ...
    def image(self, row: Row, original: ByteImage | None = None) -> ByteImage: ...
    def mask(self, row: Row) -> ByteImage: ...
    def holds_images(self, config: str, split: str) -> bool: ...


def make_row(
    columns: Mapping[str, Any],
    config: str,
    location: tuple[str, int, int],
    mask_location: tuple[int, int] = (0, 0),
    *,
    residual: bool = False,
    checksums: tuple[int | None, int | None] = (None, None),
) -> Row:
    """Make a ``Row`` from the columns named by ``ROW_COLUMNS``.

    Raises:
        AfbenchError: if a column that must hold a name holds anything else.
    """
    check_row(columns)
    return Row(
        **{name: columns[name] for name in ROW_COLUMNS},
        config=config,
        original_sha256=columns.get("original_sha256") or columns["image_sha256"],
        location=location,
        mask_location=mask_location,
        residual=residual,
        checksums=checksums,
    )
