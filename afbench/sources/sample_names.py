"""Read file names: which files are pictures, their stems, and the sample ids made of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from afbench.untrusted import LONGEST_NAME

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp")
FOREIGN_SUFFIXES = (".gif", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".npy")
"""Suffixes of pictures and arrays that are not read; a layout lists them, so that each is excluded by name."""


def sample_id(stem: str) -> str:
    """Make an id of ``[A-Za-z0-9._-]+`` from a stem, perhaps with folders; different stems give different ids.

    A slash becomes ``__``. If another letter is replaced or a long name is cut, eight digits of a hash follow: otherwise
    all names in other alphabets would become the same underscores, and so one sample.
    """
    flat = stem.replace("/", "__")
    legal = re.sub(r"[^A-Za-z0-9._-]", "_", flat)
    if legal == flat and len(legal) <= LONGEST_NAME:
        return legal
    return f"{legal[: LONGEST_NAME - 9]}-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"


def is_picture(path: str) -> bool:
    """Tell whether a file's suffix is a picture's, read or not; hidden files and those of a Macintosh archive are not."""
    parts = path.split("/")
    return path.lower().endswith((*SUFFIXES, *FOREIGN_SUFFIXES)) and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


def without_copies(paths: Sequence[str]) -> list[str]:
    """Return the paths without the pictures in unread formats whose name a readable picture also has."""
    readable = {relative_stem(path).lower() for path in paths if path.lower().endswith((*SUFFIXES, ".npz"))}
    return [
        path
        for path in paths
        if not (path.lower().endswith(FOREIGN_SUFFIXES) and relative_stem(path).lower() in readable)
    ]


def stem(path: str) -> str:
    """Return a file's name without its folders and its suffix."""
    name = path.rsplit("/", 1)[-1]
    return name.rpartition(".")[0] or name


def relative_stem(path: str) -> str:
    """Return a path without its suffix."""
    return path[: len(path) - len(path.rsplit("/", 1)[-1])] + stem(path)
