"""Recognise a file that cannot be read as a picture by its first bytes, never by its name."""

from __future__ import annotations

from typing import NamedTuple


class Signature(NamedTuple):
    """``picture`` names a format of pixels that is not read here, ``not_picture`` a file without pixels; "" for neither."""

    picture: str = ""
    not_picture: str = ""


_PICTURES = (
    (0, b"GIF8", "a GIF"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftyphe", "a HEIF"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR"),
)
_NOT_PICTURES = (
    (b"<!doctype html", "a page of HTML, not what it links to"),
    (b"<html", "a page of HTML, not what it links to"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself (git lfs pull)"),
    (b"pk\x03\x04", "a zip archive"),
    (b"%pdf", "a PDF"),
)


def signature(data: bytes) -> Signature:
    """Name a file by its first bytes."""
    for offset, magic, name in _PICTURES:
        if data[offset : offset + len(magic)] == magic:
            return Signature(picture=name)
    start = data[:256].lstrip().lower()
    return Signature(not_picture=next((name for magic, name in _NOT_PICTURES if start.startswith(magic)), ""))
