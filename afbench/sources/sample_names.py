"""What the names of files say: which are pictures, their stems, and the sample ids made of them."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence

from afbench.untrusted import LONGEST_NAME

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp")
FOREIGN_SUFFIXES = (".gif", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".npy")
"""Of pictures and arrays that are not read; a layout lists them, so that each is excluded by name."""


def sample_id(stem: str) -> str:
    """A stem, perhaps with folders, as an id of ``[A-Za-z0-9._-]+``; other stems give other ids.

    A slash becomes ``__``. Where another letter is replaced, or a name too long is cut, eight digits of a hash follow: names in other alphabets
    would all become underscores, and so one sample.
    """
    flat = stem.replace("/", "__")
    legal = re.sub(r"[^A-Za-z0-9._-]", "_", flat)
    if legal == flat and len(legal) <= LONGEST_NAME:
        return legal
    return f"{legal[: LONGEST_NAME - 9]}-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"


def is_picture(path: str) -> bool:
    """Whether a file is a picture by its suffix, read or not, and not hidden nor left behind by a Macintosh archive."""
    parts = path.split("/")
    return path.lower().endswith((*SUFFIXES, *FOREIGN_SUFFIXES)) and not any(
        part.startswith(".") or part == "__MACOSX" for part in parts
    )


def without_copies(paths: Sequence[str]) -> list[str]:
    """The paths without pictures of foreign formats beside one of their name that can be read."""
    readable = {relative_stem(path).lower() for path in paths if path.lower().endswith((*SUFFIXES, ".npz"))}
    return [
        path
        for path in paths
        if not (path.lower().endswith(FOREIGN_SUFFIXES) and relative_stem(path).lower() in readable)
    ]


def stem(path: str) -> str:
    """A file's name without its folders and without what follows its last dot."""
    name = path.rsplit("/", 1)[-1]
    return name.rpartition(".")[0] or name


def relative_stem(path: str) -> str:
    """A path without what follows the last dot of its name."""
    return path[: len(path) - len(path.rsplit("/", 1)[-1])] + stem(path)
