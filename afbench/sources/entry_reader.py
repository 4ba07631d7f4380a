"""Read one entry of a release into a checked sample: files below the root, of bounded size, image and mask alike."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from afbench.core import BadSample, ByteImage, Sample
from afbench.images import TRANSPARENT, decode

from .drawn_masks import require_drawn
from .mask_rules import MaskRule, advice, rule_for, split_rule
from .source_entry import SourceEntry, SourceOptions
from .table_cells import parse_cell, read_cell

MAX_BYTES = 2**30
"""Largest file that is read."""
CANNOT_READ = "cannot be read: "
"""Begins the detail of a file that the system failed to read; the next try may succeed."""


class ReadEntry(NamedTuple):
    """A sample and what the index records of it.

    ``mode`` and ``exif_orientation`` are the image's; the orientation is never applied. Hashes are of file bytes; several
    masks have the hash of their joined hex digests, no mask has "". ``resized``: whether a mask was brought to the
    image's size. ``mask_grey_fraction``: the share of mask pixels that are neither 0 nor 255.
    """

    sample: Sample
    mode: str
    exif_orientation: int | None
    image_sha256: str
    mask_sha256: str
    resized: bool
    mask_grey_fraction: float


class _Mask(NamedTuple):
    forged: ByteImage
    sha256: str
    resized: bool
    grey_fraction: float


def read_entry(root: Path, entry: SourceEntry, options: SourceOptions) -> ReadEntry:
    """Read an entry's image and masks, and check that they make a sample.

    An authentic image gets an all-zero mask; a mask that its release has for it is not opened.

    Raises:
        BadSample: the entry's own problem, or ``missing_image``, ``missing_mask``, ``outside_root``, ``unreadable``,
            ``unsupported_format``, ``too_large``, ``too_costly``, ``animated``, ``unsupported_mode``, ``size_mismatch``,
            ``rotated_mask``, ``empty_mask``, ``full_mask`` or ``photograph_as_mask``.
    """
    if entry.problem:
        raise BadSample(entry.problem, entry.detail)
    if entry.image is None:
        raise BadSample("missing_image", entry.detail or "a mask without its image")
    if entry.label == "forged" and not entry.masks:
        raise BadSample("missing_mask", entry.detail or "no mask of its name")
    try:
        return _read_files(root, entry, entry.image, options)
    except BadSample as problem:
        if problem.reason == "unsupported_mode" and TRANSPARENT in problem.detail:
            raise BadSample(problem.reason, f"{problem.detail}; --ignore-alpha drops it") from None
        raise


def _read_files(root: Path, entry: SourceEntry, image_path: str, options: SourceOptions) -> ReadEntry:
    data = read_bytes(root, image_path)
    image_sha256 = hashlib.sha256(data).hexdigest()
    image, mode, orientation = decode(data, ignore_alpha=options.read.ignore_alpha)
    del data  # a file may be as large as its pixels
    height, width = image.shape[:2]
    size = reduced_size((height, width), options.read.max_side)
    if entry.label == "authentic":
        mask = _Mask(np.zeros(size, np.uint8), "", False, 0.0)
    else:
        mask = _read_masks(root, entry, options, (height, width), size)
    if size != (height, width):
        # Pillow's Lanczos filter widens with the factor, so that nothing folds over
        picture = Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS)
        image = np.asarray(picture)
    sample = Sample(
        entry.sample_id, image, mask.forged, group=entry.group or entry.sample_id, kind=entry.kind
    )
    return ReadEntry(sample, mode, orientation, image_sha256, mask.sha256, mask.resized, mask.grey_fraction)


def reduced_size(size: tuple[int, int], max_side: int | None) -> tuple[int, int]:
    """Return a size (height, width) whose longer side is at most ``max_side``, in the same proportions to the nearest pixel."""
    longer = max(size)
    if max_side is None or longer <= max_side:
        return size
    height, width = (max(1, (2 * side * max_side + longer) // (2 * longer)) for side in size)
    return height, width


def read_bytes(root: Path, relative: str, *, limit: int = MAX_BYTES) -> bytes:
    """Read a whole file below a root, or a cell of a table there (``table_cells``); refuse any file elsewhere.

    Raises:
        BadSample: ``outside_root``, ``too_large`` (above ``limit`` bytes), ``unreadable`` or, of a cell, ``missing_image``.
    """
    cell = parse_cell(relative)
    path = resolve_below(root, cell.file if cell else relative)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
            raise BadSample("unreadable", "no regular file")
        if cell:
            return read_cell(path, cell, limit)
        if status.st_size > limit:
            raise BadSample("too_large", f"{status.st_size} bytes, at most {limit} are read")
        # the file may grow after its size was read: one byte more than allowed shows it
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise BadSample("unreadable", f"{CANNOT_READ}{error.strerror or error}") from None
    if len(data) > limit:
        raise BadSample("too_large", f"more than {limit} bytes")
    return data


def resolve_below(root: Path, relative: str) -> Path:
    """Return the path of a file below a root, with all links resolved.

    Raises:
        BadSample: ``outside_root`` or ``unreadable``.
    """
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or Path(relative).is_absolute() or "\0" in relative:
        raise BadSample("outside_root", f"{relative!a} is no path below the root")
    try:
        path = (root / relative).resolve(strict=True)
        is_below = path.is_relative_to(root.resolve(strict=True))
    except (OSError, RuntimeError) as error:  # a loop of links is one or the other, by version
        message = getattr(error, "strerror", None) or type(error).__name__
        raise BadSample("unreadable", f"{CANNOT_READ}{message}") from None
    if not is_below:
        raise BadSample("outside_root", f"{relative!a} is a link to a file outside the root")
    return path


def _read_masks(
    root: Path,
    entry: SourceEntry,
    options: SourceOptions,
    size: tuple[int, int],
    stored_size: tuple[int, int],
) -> _Mask:
    """Unite an entry's masks, which fit an image of ``size``, and bring them to ``stored_size``."""
    rule_name, is_exception = split_rule(entry.rule)
    rule = rule_for(rule_name, options.read)
    invert = options.invert != is_exception
    # an option that says how to read greys says that greys are meant
    is_default = options.read.mask_threshold is None and not options.read.mask_nonzero
    must_be_drawn = entry.user_masks and rule.name == "white" and is_default
    forged = np.zeros(size, np.bool_)
    digests, shares, resized = [], [], False
    all_levels: list[ByteImage] = []
    for path in entry.masks:
        data = read_bytes(root, path)
        digests.append(hashlib.sha256(data).hexdigest())
        levels = rule.levels(data)
        if must_be_drawn:
            require_drawn(
                levels,
                "--mask-threshold 127 takes what is above the middle for white, --mask-nonzero all that is not black",
            )
        all_levels.append(levels)
        shares.append(float(np.mean((levels > 0) & (levels < 255))))
        part = rule.forged(levels)
        if invert and rule.undecided is not None:
            # so that the inversion below takes them out again: undecided pixels are never forged
            part = part | (levels == rule.undecided)
        if part.shape != size:
            part, resized = _fit(part, size, options), True
        forged |= part
    if invert:
        forged = ~forged
    if stored_size != size:
        forged = _nearest(forged, stored_size)
    _require_both_sides(forged, all_levels, rule, invert, options)
    sha256 = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    mask = np.where(forged, np.uint8(255), np.uint8(0))
    return _Mask(mask, sha256, resized, float(np.mean(shares)))


def _fit(part: np.ndarray, size: tuple[int, int], options: SourceOptions) -> np.ndarray:
    """Resize a mask to its image's size by nearest pixel, if the user asked for it; a rotated mask never fits."""
    (mask_height, mask_width), (height, width) = part.shape, size
    sizes = f"mask {mask_width}x{mask_height}, image {width}x{height}"
    # nearest pixels would stretch a rotated mask to the right size and mark the wrong place
    if (mask_height, mask_width) == (width, height):
        raise BadSample("rotated_mask", sizes)
    if options.on_mismatch != "resize-nearest":
        raise BadSample("size_mismatch", sizes)
    return _nearest(part, size)


def _nearest(part: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    levels = Image.fromarray(part.astype(np.uint8))
    return np.asarray(levels.resize(size[::-1], Image.Resampling.NEAREST)) > 0


def _require_both_sides(
    forged: np.ndarray, levels: Sequence[ByteImage], rule: MaskRule, invert: bool, options: SourceOptions
) -> None:
    if forged.any() and not forged.all():
        return
    reason, quantifier = ("full_mask", "every") if forged.any() else ("empty_mask", "no")
    hint = advice(rule, levels)
    reduced = "" if options.read.max_side is None else f" at --max-side {options.read.max_side}"
    detail = f"{quantifier} pixel is forged{reduced} ({rule.summary}{', inverted' if invert else ''})"
    raise BadSample(reason, f"{detail}; {hint}" if hint else detail)
