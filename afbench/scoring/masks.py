"""The PNG of a prediction: what it claims is checked before a decoder sees it."""

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

from .problems import Refused

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND")
"""Chunks that decide pixels."""
_GREY = 0
_KINDS = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}


def largest_png(shape: tuple[int, int]) -> int:
    """More bytes than an 8-bit grey PNG of ``(H, W)`` ever needs."""
    height, width = shape
    return 2 * height * (width + 1) + 65_536


def read_mask(data: bytes, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Decode a mask PNG, 1-bit or 8-bit of 0 and 255, to bool ``(H, W)``.

    Raises:
        Refused: AF006 to AF008 and AF011.
    """
    pixels = _decode(data, shape, (1, 8))
    if pixels.dtype == np.bool_:
        return np.asarray(pixels, np.bool_)
    mask: npt.NDArray[np.bool_] = pixels == 255
    if np.count_nonzero(mask) + np.count_nonzero(pixels == 0) != pixels.size:
        found = np.unique(pixels)
        other = int(found[(found > 0) & (found < 255)][0])
        raise Refused("AF007", f"holds grey level {other}; a mask holds 0 and 255")
    return mask


def read_probability(data: bytes, shape: tuple[int, int]) -> ByteImage:
    """Decode an 8-bit grey probability map to uint8 ``(H, W)``.

    Raises:
        Refused: AF006 to AF008 and AF011.
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
                raise Refused("AF008", "the PNG contradicts its own header")
            if getattr(picture, "n_frames", 1) != 1:
                raise Refused("AF007", "is animated; a mask is one picture")
            if "transparency" in picture.info:
                raise Refused("AF007", "names a transparent level; a mask is opaque")
            picture.load()
            if picture.size != size:
                raise Refused("AF008", "the PNG contradicts its own header")
            return np.asarray(picture)
    except Refused:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise Refused("AF011", "a decompression bomb by Pillow's rules") from None
    except Exception as error:  # a stranger's bytes make the library raise almost anything
        raise Refused("AF008", f"no readable PNG ({type(error).__name__})") from None


def _picture_chunks(data: bytes) -> bytes:
    """A PNG without what is no picture: texts and profiles, of which a kilobyte may unfold to a megabyte.

    Raises:
        Refused: AF008 if it is not whole: a decoder stops at the last row and judges nothing behind it.
    """
    at, names, kept = len(_SIGNATURE), [], [_SIGNATURE]
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(data) or struct.unpack(">I", data[end : end + 4])[0] != zlib.crc32(
            data[at + 4 : end]
        ):
            raise Refused("AF008", "is truncated, or a checksum in it is wrong")
        names.append(data[at + 4 : at + 8])
        if names[-1] in _PICTURE:
            kept.append(data[at : end + 4])
        at = end + 4
        if names[-1] == b"IEND":
            break
    if not names or names[-1] != b"IEND" or at != len(data) or names.count(b"IHDR") != 1:
        raise Refused("AF008", "does not end where a PNG ends")
    return b"".join(kept)


def _check_header(data: bytes, shape: tuple[int, int], depths: tuple[int, ...]) -> tuple[int, int]:
    if data[:8] != _SIGNATURE or data[12:16] != b"IHDR" or len(data) < 29:
        raise Refused("AF008", "is no PNG")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if width * height > MAX_PIXELS:
        raise Refused("AF011", f"claims {width}x{height} pixels in {len(data)} bytes")
    if (height, width) != shape:
        raise Refused("AF006", f"is {width}x{height}, the sample is {shape[1]}x{shape[0]}")
    if colour != _GREY or depth not in depths:
        kind = f"{depth}-bit {_KINDS.get(colour, f'colour type {colour}')}"
        wanted = " or ".join(f"{one}-bit" for one in depths)
        raise Refused("AF007", f"is {kind}, expected {wanted} grey")
    return width, height
