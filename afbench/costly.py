"""Refuse small pictures that keep a decoder busy for minutes or fill the memory, by their structure, before it sees them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from afbench.core import BadSample

MAX_SCANS = 20
"""Scans a JPEG may always have; progressive ones have about ten."""
MAX_SCANNED_PIXELS = 2**30
"""Scans times pixels of a JPEG with more: every scan goes over all pixels, even one of a few bytes."""
MAX_SEGMENTS = 2_000
"""Segments before the pixels of a JPEG; what they hold is put together one by one."""
MAX_PACKED_CHUNKS = 100
"""Chunks of a PNG that are unpacked for what they say; each may become a megabyte."""
MAX_SMALL_CHUNKS = 10_000
"""Chunks a PNG may always have; one with more has 1 kB of data for each."""
MAX_RUN_LENGTH_PIXELS = 2**22
"""Pixels of a run-length encoded BMP, which Pillow decodes in Python."""
MAX_STRIPS = 2**17
"""Strips or tiles of a TIFF, which Pillow decodes one by one."""
MAX_TILE_PIXELS = 2**26
"""Pixels of one tile of a TIFF, which is unpacked whole however small the image is."""
MOST_SHARED = 4
"""How often the tags of a TIFF or of EXIF may read the bytes they are in."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"MM*\0", b"II\0*")
_EXIF = b"Exif\0\0"
_PACKED = (b"iCCP", b"zTXt", b"iTXt")
_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")
"""A JPEG's marker; neither a stuffed byte nor a restart."""
_TEM, _SOI, _EOI, _SOS, _APP1 = 0x01, 0xD8, 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
"""Bytes of a value, by TIFF's number of its type."""
_TILE_WIDTH, _TILE_HEIGHT, _STRIPS, _TILES = 322, 323, 273, 324


def refuse_costly(data: bytes) -> None:
    """Refuse a picture whose structure makes it costly; what is damaged or no picture is left to its decoder.

    Raises:
        BadSample: ``too_costly``, with the reason.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(_TIFF):
        refuse_costly_tags(data)
    elif data.startswith(b"BM"):
        _check_bmp(data)


def refuse_costly_tags(data: bytes) -> None:
    """Refuse costly tags in the first two directories of a TIFF, or of EXIF, which is a TIFF inside another file.

    Raises:
        BadSample: ``too_costly``, where tags read the same bytes many times, or strips or a tile are beyond measure.
    """
    if data.startswith(_EXIF * 8):
        raise _costly("EXIF that begins again and again")
    tiff = data
    while tiff.startswith(_EXIF):
        tiff = tiff[len(_EXIF) :]
    shared, tile = 0, {_TILE_WIDTH: 1, _TILE_HEIGHT: 1}
    for tag in _tags(tiff):
        shared += tag.size
        if shared > MOST_SHARED * len(tiff) + 2**16:
            raise _costly(f"tags that read the same of {len(tiff)} bytes again and again")
        if tag.number in (_STRIPS, _TILES) and tag.length > MAX_STRIPS:
            raise _costly(f"{tag.length} strips or tiles, at most {MAX_STRIPS} are read")
        if tag.number in tile:
            tile[tag.number] = tag.value
        if tile[_TILE_WIDTH] * tile[_TILE_HEIGHT] > MAX_TILE_PIXELS:
            raise _costly(f"tiles of {tile[_TILE_WIDTH]}x{tile[_TILE_HEIGHT]} pixels")


def _costly(cause: str) -> BadSample:
    return BadSample("too_costly", f"{cause}; decoding it would take minutes or the memory")


def _check_jpeg(data: bytes) -> None:
    pixels = segments = scans = 0
    exif: list[bytes] = []
    for marker, body in _segments(data):
        if marker == _SOS:
            scans += 1
        elif marker in _FRAMES and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            pixels = max(pixels, height * width)
        segments += not scans
        if marker == _APP1 and not scans and body.startswith(_EXIF):
            exif.append(body[len(_EXIF) * bool(exif) :])
        if segments > MAX_SEGMENTS:
            raise _costly(f"more than {MAX_SEGMENTS} segments before the pixels")
        if scans > MAX_SCANS and scans * pixels > MAX_SCANNED_PIXELS:
            raise _costly(f"{scans} scans or more over {pixels} pixels")
    refuse_costly_tags(b"".join(exif))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker of a JPEG with its body, up to the end of the pixels; skip padding and junk as decoders do."""
    position, scanned = 2, False
    while match := _MARKER.search(data, position):
        marker, position = match[1][0], match.end()
        if marker == _EOI and scanned:
            return
        if marker in (_TEM, _SOI, _EOI):  # Pillow goes on after an end before the first scan
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        scanned |= marker == _SOS
        yield marker, data[position + 2 : position + length]
        # a length includes its own two bytes; a smaller one is damage, and must not hold up the search
        position += max(length, 2)


def _check_png(data: bytes) -> None:
    position, chunks, packed = len(PNG_SIGNATURE), 0, 0
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"eXIf":
            refuse_costly_tags(data[position + 8 : position + 8 + length])
        position += 12 + length
        chunks += 1
        packed += kind in _PACKED
        if packed > MAX_PACKED_CHUNKS:
            raise _costly(f"more than {MAX_PACKED_CHUNKS} packed texts and profiles")
        if chunks > MAX_SMALL_CHUNKS and chunks * 1024 > len(data):
            raise _costly(f"{chunks} chunks or more in {len(data)} bytes")


def _check_bmp(data: bytes) -> None:
    header, compression = (int.from_bytes(data[offset : offset + 4], "little") for offset in (14, 30))
    if header < 40 or compression not in (1, 2):  # the oldest header says nothing of packing
        return
    width, height = struct.unpack("<ii", data[18:26])
    if abs(width * height) > MAX_RUN_LENGTH_PIXELS:
        raise _costly(
            f"{abs(width)}x{abs(height)} run-length encoded pixels, at most {MAX_RUN_LENGTH_PIXELS}"
        )


class _Tag(NamedTuple):
    """One tag of a TIFF.

    ``length`` is that of its list of numbers, ``size`` how many bytes of the file it reads elsewhere, ``value`` its only
    number, else 0.
    """

    number: int
    length: int
    size: int
    value: int


def _tags(tiff: bytes) -> Iterator[_Tag]:
    """Yield the tags of the first two directories."""
    order = ">" if tiff.startswith(b"MM") else "<"
    big = tiff[2:4] in (b"+\0", b"\0+")
    number, counted, address = (
        struct.Struct(order + code) for code in (("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I"))
    )
    field, inline = (8, 8) if big else (4, 4)
    position = 8 if big else 4
    for _ in range(2):
        if len(tiff) < position + field:
            return
        (start,) = address.unpack_from(tiff, position)
        if not start or len(tiff) < start + number.size:
            return
        (tags,) = number.unpack_from(tiff, start)
        position = start + number.size + tags * counted.size
        last = min(position, len(tiff) - counted.size + 1)
        for offset in range(start + number.size, last, counted.size):
            tag, kind, count, raw = counted.unpack_from(tiff, offset)
            size = count * _SIZES.get(kind, 0)
            if size > inline:
                (start_of_values,) = address.unpack(raw)
                yield _Tag(tag, count, max(0, min(size, len(tiff) - start_of_values)), 0)
            else:
                value = int.from_bytes(raw[:size], "big" if order == ">" else "little")
                yield _Tag(tag, count, 0, value if count == 1 else 0)
