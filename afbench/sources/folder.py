"""A user's own images and masks: ``ROOT/images`` and ``ROOT/masks``, paired by stem, never by order."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from afbench.core import BadSample, Sample, Source, UsageError
from afbench.images import decode_image, decode_mask

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MASK_ENDINGS = ("_mask", "_gt", "")
"""A mask carries the stem of its image, with or without one of these behind it."""


@dataclass(frozen=True)
class _Pair:
    image: Path | None
    mask: Path | None
    problem: str = ""


def open_folder(root: str, limit: int | None = None) -> Source:
    """Pair every image below ``ROOT/images`` with the mask of the same relative stem below ``ROOT/masks``.

    An image without a mask, a mask without an image, and names that cannot be told apart are samples that are
    excluded with their reason when read.

    Raises:
        UsageError: if the root or one of its two folders is missing, or holds no image.
    """
    base = Path(root).expanduser()
    _require_folders(base)
    pairs = _pair(base)
    if not any(pair.image for pair in pairs.values()):
        raise UsageError(f"source folder: no image in '{base / 'images'}' ({', '.join(SUFFIXES)})")
    ids = sorted(pairs)[:limit]
    return Source(
        "folder",
        ids,
        partial(_read, pairs),
        _fingerprint(base, pairs, ids),
        terms="the user's own; not known to afbench",
    )


def _require_folders(base: Path) -> None:
    for folder in (base, base / "images", base / "masks"):
        if not folder.is_dir():
            raise UsageError(
                f"source folder: '{folder}' is no folder; expected {base}/images and {base}/masks"
            )


def _pair(base: Path) -> dict[str, _Pair]:
    images, masks = _stems(base / "images"), _stems(base / "masks")
    pairs: dict[str, _Pair] = {}
    used: set[str] = set()
    for stem, found in images.items():
        # a mask of an image's very own name belongs to that image alone
        matches = [
            stem + ending
            for ending in MASK_ENDINGS
            if stem + ending in masks and not (ending and stem + ending in images)
        ]
        used.update(matches)
        files = [path for match in matches for path in masks[match]]
        sample_id = _sample_id(stem)
        if len(found) > 1 or sample_id in pairs:
            pairs[sample_id] = _Pair(found[0], None, "ambiguous_name")
        elif len(files) > 1:
            pairs[sample_id] = _Pair(found[0], None, "ambiguous_mask")
        else:
            pairs[sample_id] = _Pair(found[0], files[0] if files else None)
    for stem in masks.keys() - used:
        pairs.setdefault(_sample_id(stem), _Pair(None, masks[stem][0]))
    return pairs


def _stems(folder: Path) -> dict[str, list[Path]]:
    """Files by path without the last suffix, relative to the folder, with forward slashes."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith("."):
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return found


def _sample_id(stem: str) -> str:
    flat = stem.replace("/", "__")
    legal = re.sub(r"[^A-Za-z0-9._-]", "_", flat)
    # names in other alphabets would all become underscores, and so one sample
    return legal if legal == flat else f"{legal}-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"


def _fingerprint(base: Path, pairs: dict[str, _Pair], ids: Iterable[str]) -> str:
    digest = hashlib.sha256(b"folder-1")
    for sample_id in ids:
        for path in (pairs[sample_id].image, pairs[sample_id].mask):
            content = _file_sha256(path) if path else "none"
            digest.update(f"{sample_id}\0{content}\n".encode())
    return digest.hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _read(pairs: dict[str, _Pair], sample_id: str) -> Sample:
    pair = pairs[sample_id]
    if pair.problem:
        raise BadSample(pair.problem, "another file has the same stem")
    if pair.image is None:
        raise BadSample("missing_image", "a mask without an image of its stem")
    if pair.mask is None:
        raise BadSample("missing_mask", "no mask of its stem, with _mask or _gt behind it or without")
    try:
        image, mask = decode_image(pair.image.read_bytes()), decode_mask(pair.mask.read_bytes())
    except OSError as error:
        raise BadSample("unreadable", error.strerror or "cannot be read") from None
    if mask.shape != image.shape[:2]:
        rotated = mask.shape == image.shape[1::-1]
        raise BadSample(
            "rotated_mask" if rotated else "size_mismatch",
            f"mask {mask.shape[1]}x{mask.shape[0]}, image {image.shape[1]}x{image.shape[0]}",
        )
    if not np.any(mask):
        raise BadSample("empty_mask", "no pixel above 127")
    return Sample(sample_id, image, mask, group=sample_id)


def count_folder(root: str) -> int:
    """Samples a folder would give, without opening any.

    Raises:
        UsageError: if the root or one of its two folders is missing.
    """
    base = Path(root).expanduser()
    _require_folders(base)
    return len(_pair(base))
