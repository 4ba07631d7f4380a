"""A user's own images and masks: ``images`` and ``masks``, paired by relative stem, never by order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .files import pictures, settle

EXPECTS = "images/*.png (or .jpg, .tif, .bmp, .webp) and masks/ with the same stems, with _mask or _gt behind or not"

MASK_ENDINGS = ("_mask", "_gt", "")
"""A mask carries the stem of its image, with or without one of these behind it."""


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Pair every image below ``images`` with the mask of the same relative stem below ``masks``.

    An image without a mask, a mask without an image, and names that cannot be told apart keep their reason.
    """
    images, masks = _stems(paths, "images"), _stems(paths, "masks")
    found: list[Entry] = []
    used: set[str] = set()
    for stem, same in images.items():
        # a mask of an image's very own name belongs to that image alone
        matches = [
            stem + ending
            for ending in MASK_ENDINGS
            if stem + ending in masks and not (ending and stem + ending in images)
        ]
        used.update(matches)
        found.append(_entry(stem, same, [path for match in matches for path in masks[match]]))
    listed = {entry.sample_id for entry in found}
    for stem in sorted(masks.keys() - used):
        known_as = sample_id(stem)
        if known_as not in listed:
            listed.add(known_as)
            detail = "a mask without an image of its stem"
            found.append(Entry(known_as, None, tuple(masks[stem]), problem="missing_image", detail=detail))
    return settle(found) if images else []


def _entry(stem: str, images: list[str], masks: list[str]) -> Entry:
    known_as, twice = sample_id(stem), "another file has the same stem"
    if len(images) > 1:
        return Entry(known_as, images[0], group=known_as, problem="ambiguous_name", detail=twice)
    if len(masks) > 1:
        return Entry(known_as, images[0], group=known_as, problem="ambiguous_mask", detail=twice)
    if not masks:
        detail = "no mask of its stem, with _mask or _gt behind it or without"
        return Entry(known_as, images[0], group=known_as, problem="missing_mask", detail=detail)
    return Entry(known_as, images[0], (masks[0],), group=known_as)


def _stems(paths: Sequence[str], folder: str) -> dict[str, list[str]]:
    """Pictures by path without the last suffix, relative to the folder."""
    found: dict[str, list[str]] = {}
    for picture in pictures(paths):
        if picture.folders[:1] and picture.folders[0].lower() == folder:
            found.setdefault("/".join((*picture.folders[1:], picture.stem)), []).append(picture.path)
    return found
