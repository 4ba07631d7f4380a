"""Open HDF5 shards of our own form only: an HDF5 file can point at other files and claim any size."""

from __future__ import annotations

import math
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import MAX_PIXELS, decode_stored
from afbench.untrusted import is_name, quoted

from .hdf5 import (
    CHECKED,
    CHECKSUMS,
    CONTENTS,
    FORMAT,
    NUMBERS,
    PLAIN,
    RANGES,
    columns_crc32,
    pictures_of,
    scalar_columns,
)

_MOST_TEXT = 4096
"""Longest string of an attribute or column, in bytes."""
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_LAYOUTS = {h5py.h5d.VIRTUAL: "virtual", h5py.h5d.CHUNKED: "chunked", h5py.h5d.COMPACT: "compact"}


@dataclass(frozen=True, kw_only=True)
class Hdf5Shard:
    """An open HDF5 shard whose every claim has been checked. ``columns`` are in memory, pictures are read when asked for."""

    path: Path
    config: str
    split: str
    content: str
    image_format: str
    columns: Mapping[str, npt.NDArray[Any]]
    _ranges: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = field(repr=False)
    _checksums: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    _pictures: Mapping[str, Any] = field(repr=False)
    _file: Any = field(repr=False)

    def __len__(self) -> int:
        return len(self.columns["sample_id"])

    def close(self) -> None:
        self._file.close()

    def place(self, row: int, name: str = "data") -> tuple[int, int]:
        """Return where in the file one encoded picture lies, and its length; (0, 0) where there is none."""
        if name not in self._ranges:
            return 0, 0
        offset, length = (int(part[row]) for part in self._ranges[name])
        # None for a dataset of no bytes
        return (self._pictures[name].id.get_offset() or 0) + offset, length

    def checksum(self, row: int, name: str = "data") -> int | None:
        """Return the CRC-32 of one encoded picture; None where the shard has none."""
        return int(self._checksums[name][row]) if name in self._checksums else None

    @property
    def has_masks(self) -> bool:
        return "mask_data" in self._ranges

    def scalars(self, row: int, names: Collection[str] | None = None) -> dict[str, Any]:
        """Return the columns of one row, or some of them, null as None, as Parquet gives them."""
        kinds = scalar_columns(self.config)
        return {
            name: _scalar(self.columns[name][row], kind)
            for name, kind in kinds.items()
            if names is None or name in names
        }

    def encoded(self, row: int, name: str = "data") -> bytes:
        """Read one encoded picture of ``data`` or ``mask_data``.

        Raises:
            AfbenchError: if the shard holds none, it cannot be read, or its bytes changed.
        """
        if name not in self._ranges:
            raise AfbenchError(f"'{self.path}' holds no {'masks' if name == 'mask_data' else 'pictures'}")
        offset, length = (int(part[row]) for part in self._ranges[name])
        try:
            data = bytes(self._pictures[name][offset : offset + length].tobytes())
        except (OSError, RuntimeError, ValueError) as error:
            raise _refused(self.path, f"{name} cannot be read ({error})") from None
        if self.checksum(row, name) not in (None, zlib.crc32(data)):
            raise _refused(self.path, f"{name} of row {row} has another checksum: its bytes changed")
        return data

    def picture(self, row: int, name: str = "data") -> ByteImage:
        """Decode one picture, uint8 ``(H, W, 3)``, or ``(H, W)`` of ``mask_data``.

        Raises:
            AfbenchError: if it is damaged, or not of the size its row says.
        """
        size = int(self.columns["height"][row]), int(self.columns["width"][row])
        sample_id = self.columns["sample_id"][row].decode(errors="replace")
        try:
            pixels = decode_stored(self.encoded(row, name), size)
        except BadSample as problem:
            raise _refused(self.path, f"{sample_id}: {name} is damaged ({problem})") from None
        if pixels.ndim != (2 if name == "mask_data" else 3):
            raise _refused(self.path, f"{sample_id}: {name} has another number of colours than expected")
        return pixels


def open_shard(path: Path) -> Hdf5Shard:
    """Open and check a shard; the caller closes it.

    Raises:
        AfbenchError: if it is none of ours: links, external storage, virtual or chunked datasets, types that hold
            pointers, sizes that the file cannot have, ranges outside of the data.
    """
    if not path.is_file():
        raise AfbenchError(f"HDF5 file '{path}' is missing")
    try:
        # nothing but this file, no lock (nobody writes it), no filter: chunked datasets are refused below
        file = h5py.File(path, "r", driver="sec2", locking=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise _refused(path, f"no readable HDF5: {error}") from None
    try:
        return _checked(path, file)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        file.close()
        raise _refused(path, f"damaged: {type(error).__name__}: {error}") from None
    except AfbenchError:
        file.close()
        raise


@contextmanager
def reading_shard(path: Path) -> Iterator[Hdf5Shard]:
    """Open a shard as ``open_shard`` does, and close it at the end."""
    shard = open_shard(path)
    try:
        yield shard
    finally:
        shard.close()


def _checked(path: Path, file: Any) -> Hdf5Shard:
    attributes = {
        name: _text(path, file, name) for name in ("format", "config", "split", "content", "image_format")
    }
    version = _attribute(path, file, "version", "i")
    if attributes["format"] != FORMAT.decode() or version not in (PLAIN, CHECKED):
        raise _refused(
            path, f"format {attributes['format']} {version}, expected {FORMAT.decode()} {PLAIN} or {CHECKED}"
        )
    if attributes["content"] not in CONTENTS or attributes["image_format"] not in ("webp", "png"):
        raise _refused(path, f"content {attributes['content']} of {attributes['image_format']} is unknown")
    for name in ("config", "split"):
        _require_name(path, name, attributes[name])
    kinds = scalar_columns(attributes["config"])
    pictures = {name: RANGES[name] for name in pictures_of(attributes["content"])}
    expected = {**kinds, **{part: "int64" for parts in pictures.values() for part in parts}}
    expected |= dict.fromkeys(pictures, "bytes")
    checksums = {name: CHECKSUMS[name] for name in pictures} if version == CHECKED else {}
    expected |= dict.fromkeys(checksums.values(), "uint32")
    if odd_names := sorted(_names(path, file) ^ expected.keys()):
        raise _refused(path, f"unexpected or missing: {', '.join(map(ascii, odd_names[:3]))}")
    sets = {name: _dataset(path, file, name, kind) for name, kind in expected.items()}
    columns = {name: sets[name][...] for name in expected if name not in pictures}
    rows = {len(column) for column in columns.values()}
    if len(rows) != 1:
        raise _refused(path, f"columns of {' and '.join(map(str, sorted(rows)))} rows")
    if version == CHECKED and _attribute(path, file, "columns_crc32", "i") != columns_crc32(columns):
        raise _refused(path, "its columns have another checksum: their bytes changed")
    _check_sizes(path, columns)
    for raw in columns["sample_id"]:
        _require_name(path, "sample", raw.decode(errors="backslashreplace"))
    ranges = {}
    for name, (offset, length) in pictures.items():
        ranges[name] = (columns.pop(offset), columns.pop(length))
        _check_ranges(path, name, *ranges[name], sets[name].shape[0])
    sums_by_picture = {name: columns.pop(column) for name, column in checksums.items()}
    stated = {name: attributes[name] for name in ("config", "split", "content", "image_format")}
    return Hdf5Shard(
        path=path,
        **stated,
        columns=columns,
        _ranges=ranges,
        _checksums=sums_by_picture,
        _pictures={name: sets[name] for name in pictures},
        _file=file,
    )


def _require_name(path: Path, label: str, value: str) -> None:
    if not is_name(value):
        raise _refused(path, f"{label} {quoted(value)} is no name")


def _names(path: Path, file: Any) -> set[str]:
    """Return the names at the root; refuse links that leave the file, and follow none."""
    if len(file.id) > 100:
        raise _refused(path, f"{len(file.id)} entries at its root")
    names = set()
    for raw in file.id:
        kind = file.id.links.get_info(raw).type
        name = raw.decode(errors="backslashreplace")
        if kind != h5py.h5l.TYPE_HARD:
            raise _refused(path, f"{name!a} is {_LINKS.get(kind, 'a link of unknown kind')}")
        names.add(name)
    return names


def _dataset(path: Path, file: Any, name: str, kind: str) -> Any:
    """Open a dataset that lies in the file as what its kind says, one number behind the other."""
    dataset = h5py.h5o.open(file.id, name.encode())
    if not isinstance(dataset, h5py.h5d.DatasetID):
        raise _refused(path, f"{name} is no dataset")
    creation = dataset.get_create_plist()
    if creation.get_layout() != h5py.h5d.CONTIGUOUS:
        raise _refused(
            path, f"{name} is {_LAYOUTS.get(creation.get_layout(), 'of unknown layout')}, expected contiguous"
        )
    if creation.get_external_count():
        raise _refused(path, f"{name} lies in another file (external storage)")
    if creation.get_nfilters():
        raise _refused(path, f"{name} has filters")
    dtype = _dtype(path, name, dataset.get_type())
    expected_type = {"bytes": "|u1", **NUMBERS}.get(kind)
    if (
        dtype.str != expected_type
        if expected_type
        else dtype.kind != "S" or not 0 < dtype.itemsize <= _MOST_TEXT
    ):
        raise _refused(path, f"{name} is of type {dtype}, expected {expected_type or 'short bytes'}")
    space = dataset.get_space()
    if space.get_simple_extent_type() != h5py.h5s.SIMPLE or dataset.rank != 1:
        raise _refused(path, f"{name} has {dataset.rank} dimensions, expected 1")
    claimed = dataset.shape[0] * dtype.itemsize
    if claimed and (
        dataset.get_storage_size() != claimed
        or dataset.get_offset() is None
        or dataset.get_offset() + claimed > path.stat().st_size
    ):
        raise _refused(path, f"{name} claims {claimed} bytes that the file does not have")
    return h5py.Dataset(dataset)


def _dtype(path: Path, name: str, kind: Any) -> np.dtype[Any]:
    """Return the NumPy type; refuse types that hold pointers into the file before one is followed."""
    if kind.get_class() not in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING) or (
        kind.get_class() == h5py.h5t.STRING and kind.is_variable_str()
    ):
        raise _refused(path, f"{name} is of an object or variable-length type")
    dtype: np.dtype[Any] = np.dtype(kind.dtype)
    return dtype


def _attribute(path: Path, file: Any, name: str, kind: str) -> Any:
    if not h5py.h5a.exists(file.id, name.encode()):
        raise _refused(path, f"attribute {name} is missing")
    attribute = h5py.h5a.open(file.id, name.encode())
    dtype = _dtype(path, f"attribute {name}", attribute.get_type())
    if attribute.get_space().get_simple_extent_npoints() != 1 or attribute.shape != ():
        raise _refused(path, f"attribute {name} is no single value")
    if dtype.kind != kind or dtype.itemsize > _MOST_TEXT:
        raise _refused(path, f"attribute {name} is of type {dtype}")
    value = np.empty((), dtype)
    attribute.read(value)
    return value[()]


def _text(path: Path, file: Any, name: str) -> str:
    return bytes(_attribute(path, file, name, "S")).decode(errors="backslashreplace")


def _check_sizes(path: Path, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    height, width = (columns[name].astype(np.int64) for name in ("height", "width"))
    if (height < 1).any() or (width < 1).any() or (height * width > MAX_PIXELS).any():
        raise _refused(path, f"a row claims a height or width below 1, or more than {MAX_PIXELS} pixels")


def _check_ranges(
    path: Path, name: str, offset: npt.NDArray[Any], length: npt.NDArray[Any], size: int
) -> None:
    # offset is compared with what is left, since a sum may overflow
    if (length < 0).any() or (length > size).any() or (offset < 0).any() or (offset > size - length).any():
        raise _refused(path, f"a picture lies outside of {name}")


def _scalar(value: Any, kind: str) -> Any:
    if kind == "string":
        return value.decode(errors="backslashreplace")
    if kind == "float64":
        return None if math.isnan(value) else float(value)
    return None if value == np.iinfo(value.dtype).min else int(value)


def _refused(path: Path, reason: str) -> AfbenchError:
    return AfbenchError(f"HDF5 file '{path}' is refused: {' '.join(reason.split())[:200]}")
