"""HDF5 shards: the bytes of one, in a layout that plain h5py and Pillow read.

All datasets lie at the root, contiguous, without filters, of one dimension: ``data`` (uint8, encoded pictures one behind the
other) with ``offset`` and ``length`` of each; the same three with ``mask_`` in front; and one array per scalar column of
a Parquet shard, in its order of rows. Strings are UTF-8 of fixed length; what is null is NaN in floats and the smallest
number in integers. Attributes: ``format``, ``version``, ``config``, ``split``, ``image_format`` (of the benchmark) and ``content``:
``images``, with masks, as in a benchmark; ``residuals`` (see ``residual``) or ``none`` (nothing but the columns), as in an archive.

Shards of a benchmark are of version 2: ``crc32`` and ``mask_crc32`` (uint32) are of each picture, and the attribute ``columns_crc32`` of
all other arrays, so that a flipped bit is noticed without the hash of the whole file, as by the page checksums of Parquet.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from afbench.images import WEBP_SIDE

from .schema import columns_of

FORMAT = b"afbench-hdf5"
PLAIN, CHECKED = 1, 2
"""Versions of the form: of archives, and of benchmarks, with checksums."""
Content = Literal["residuals", "images", "none"]
CONTENTS = ("residuals", "images", "none")
PICTURES = ("data", "mask_data")
RANGES = {"data": ("offset", "length"), "mask_data": ("mask_offset", "mask_length")}
CHECKSUMS = {"data": "crc32", "mask_data": "mask_crc32"}
NUMBERS: dict[str, str] = {"int32": "<i4", "int64": "<i8", "float64": "<f8", "uint32": "<u4"}


def scalar_columns(config: str) -> dict[str, str]:
    """Return the columns of a config that are no pictures, with their kinds."""
    return {name: kind for name, kind in columns_of(config).items() if kind not in ("image", "mask")}


def pictures_of(content: str) -> tuple[str, ...]:
    """Return the datasets of pictures that go with a ``content``; residuals find their masks with the originals."""
    return {"images": PICTURES, "residuals": PICTURES[:1]}.get(content, ())


def hdf5_file_bytes(
    config: str,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    content: Content,
    image_format: str,
    pictures: Sequence[bytes] = (),
    masks: Sequence[bytes] = (),
    version: int = PLAIN,
) -> bytes:
    """Build one shard; the same rows and pictures give the same bytes.

    Args:
        config: decides the columns.
        split: the source.
        rows: scalar columns by name; others are ignored.
        content: what ``pictures`` are.
        image_format: ``webp`` or ``png``, how the benchmark holds its images.
        pictures: encoded, one per row, or none.
        masks: encoded, one per row, or none.
        version: ``PLAIN`` or ``CHECKED``.
    """
    stream = io.BytesIO()
    attributes = {"config": config, "split": split, "content": content, "image_format": image_format}
    # a fixed version of the format: the bytes do not follow the newest library, and old ones can read them
    with h5py.File(stream, "w", libver=("v108", "v108"), track_order=False) as file:
        file.attrs["format"] = np.bytes_(FORMAT)
        file.attrs["version"] = np.int64(version)
        for name, text in attributes.items():
            file.attrs[name] = np.bytes_(text.encode())
        columns: dict[str, npt.NDArray[Any]] = {}
        for name, parts in zip(pictures_of(content), (pictures, masks), strict=False):
            _put(file, name, np.frombuffer(b"".join(parts), np.uint8))
            columns |= _ranges(name, parts)
            if version == CHECKED:
                columns[CHECKSUMS[name]] = np.array([zlib.crc32(part) for part in parts], "<u4")
        columns |= {
            name: _array([row[name] for row in rows], kind) for name, kind in scalar_columns(config).items()
        }
        for name, column in columns.items():
            _put(file, name, column)
        if version == CHECKED:
            file.attrs["columns_crc32"] = np.int64(columns_crc32(columns))
    return stream.getvalue()


def _ranges(name: str, parts: Sequence[bytes]) -> dict[str, npt.NDArray[Any]]:
    offset, length = RANGES[name]
    lengths = np.array([len(part) for part in parts], "<i8")
    return {offset: np.cumsum(lengths, dtype="<i8") - lengths, length: lengths}


def columns_crc32(columns: Mapping[str, npt.NDArray[Any]]) -> int:
    """Compute the checksum of all arrays of a shard but its pictures."""
    checksum = 0
    for name in sorted(columns):
        checksum = zlib.crc32(columns[name].tobytes(), zlib.crc32(name.encode(), checksum))
    return checksum


def _put(file: Any, name: str, array: npt.NDArray[Any]) -> None:
    # a time would change the bytes from run to run
    file.create_dataset(name, data=array, track_times=False)


def _array(values: Sequence[Any], kind: str) -> npt.NDArray[Any]:
    if kind == "string":
        encoded = [str(value).encode() for value in values]
        return np.array(encoded, f"S{max(map(len, encoded), default=0) or 1}")
    dtype = np.dtype(NUMBERS[kind])
    null = math.nan if dtype.kind == "f" else np.iinfo(dtype).min
    return np.array([null if value is None or not math.isfinite(value) else value for value in values], dtype)


def format_of(images: Sequence[bytes], sizes: Sequence[tuple[int, int]]) -> str:
    """Find the ``image_format`` of a shard: a PNG that WebP could have held shows that it is PNG."""
    is_png = [
        data.startswith(b"\x89PNG")
        for data, size in zip(images, sizes, strict=True)
        if max(size) <= WEBP_SIDE
    ]
    return "png" if any(is_png) else "webp"
