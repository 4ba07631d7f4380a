"""Decode the PNG of a prediction; check what it claims before a decoder reads it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from afbench.core import ByteImage
from afbench.images import MAX_PIXELS

from .problems import Refusal

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND")
"""Chunks that decide pixels."""
_GREY = 0
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


def largest_png(shape: tuple[int, int]) -> int:
    """Return more bytes than an 8-bit grey PNG of ``(H, W)`` ever needs."""
    height, width = shape
    return 2 * height * (width + 1) + 65_536


def read_mask(data: bytes, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode a mask PNG, 1-bit or 8-bit of 0 and 255, to bool ``(H, W)``.

    Raises:
        Refusal: AF006 to AF008 and AF011.
    """
    pixels = _decode(data, shape, (1, 8))
    # Pillow decodes 1-bit PNG to bool
    if pixels.dtype == np.bool_:
        return np.asarray(pixels, np.bool_)
    mask: npt.NDArray[np.bool_] = pixels == 255
    # np.unique sorts all pixels, so only refused masks pay for it
    if np.count_nonzero(mask) + np.count_nonzero(pixels == 0) != pixels.size:
        levels = np.unique(pixels)
        bad_level = int(levels[(levels > 0) & (levels < 255)][0])
        raise Refusal("AF007", f"holds grey level {bad_level}; a mask holds 0 and 255")
    return mask


def read_probability(data: bytes, shape: tuple[int, int]) -> ByteImage:
    """Decode an 8-bit grey probability map to uint8 ``(H, W)``.

    Raises:
        Refusal: AF006 to AF008 and AF011.
    """
    return np.asarray(_decode(data, shape, (8,)), np.uint8)


def _decode(data: bytes, shape: tuple[int, int], depths: tuple[int, ...]) -> npt.NDArray[np.generic]:
    size = _check_header(data, shape, depths)
    data = _picture_chunks(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=("PNG",))
            # a later chunk may restate what the first one said
            if picture.size != size or picture.mode not in ("1", "L"):
                raise Refusal("AF008", "the PNG contradicts its own header")
            if getattr(picture, "n_frames", 1) != 1:
                raise Refusal("AF007", "is animated; a mask is one picture")
            if "transparency" in picture.info:
                raise Refusal("AF007", "names a transparent level; a mask is opaque")
            picture.load()
            if picture.size != size:
                raise Refusal("AF008", "the PNG contradicts its own header")
            return np.asarray(picture)
    except Refusal:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Refusal("AF011", "a decompression bomb by Pillow's rules") from None
    except Exception as error:  # a stranger's bytes make the library raise almost anything
        raise Refusal("AF008", f"no readable PNG ({type(error).__name__})") from None


def _picture_chunks(data: bytes) -> bytes:
    """Drop texts and profiles from a PNG: a kilobyte of them may unfold to a megabyte.

    Raises:
        Refusal: AF008 if it is not whole: a decoder stops at the last row and judges nothing behind it.
    """
    offset, names, chunks = len(_SIGNATURE), [], [_SIGNATURE]
    while offset + 12 <= len(data):
        (length,) = struct.unpack(">I", data[offset : offset + 4])
        end = offset + 8 + length
        if end + 4 > len(data) or struct.unpack(">I", data[end : end + 4])[0] != zlib.crc32(
            data[offset + 4 : end]
        ):
            raise Refusal("AF008", "is truncated, or a checksum in it is wrong")
        names.append(data[offset + 4 : offset + 8])
        if names[-1] in _PICTURE:
            chunks.append(data[offset : end + 4])
        offset = end + 4
        if names[-1] == b"IEND":
            break
    # with a second header the decoder could use another size than the one that was checked
    if not names or names[-1] != b"IEND" or offset != len(data) or names.count(b"IHDR") != 1:
        raise Refusal("AF008", "does not end where a PNG ends")
    return b"".join(chunks)


def _check_header(data: bytes, shape: tuple[int, int], depths: tuple[int, ...]) -> tuple[int, int]:
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 29:
        raise Refusal("AF008", "is no PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if width * height > MAX_PIXELS:
        raise Refusal("AF011", f"claims {width}x{height} pixels in {len(data)} bytes")
    if (height, width) != shape:
        raise Refusal("AF006", f"is {width}x{height}, the sample is {shape[1]}x{shape[0]}")
    if colour != _GREY or depth not in depths:
        kind = f"{depth}-bit {_KINDS.get(colour, f'colour type {colour}')}"
        expected = " or ".join(f"{allowed_depth}-bit" for allowed_depth in depths)
        raise Refusal("AF007", f"is {kind}, expected {expected} grey")
    return width, height
