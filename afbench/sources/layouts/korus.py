"""Realistic tampering (Korus): forgeries made by hand on photographs of four cameras.

``<camera>/tampered-realistic/NAME.TIF`` is forged, ``<camera>/pristine/NAME.TIF`` its original and
``<camera>/ground-truth/NAME.PNG`` its mask of three levels: white pixels were changed on purpose, grey
ones were damaged by that, and both are forged. Several cameras may have the same name, so an id begins with the camera's folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import Picture, is_mask_folder, pair, pictures, settle

EXPECTS = "Canon_60D/tampered-realistic/*.TIF with Canon_60D/ground-truth/*.PNG, and other cameras likewise"

_FORGED = re.compile(r"tampered([^a-z0-9].*)?")


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the tampered images with their masks, and the pristine ones; both of one name form a group."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        key = ("/".join(picture.folders[:-1]), picture.stem)
        if _FORGED.fullmatch(picture.folder):
            entry_id = _entry_id(picture)
            entry = SourceEntry(entry_id, picture.path, rule="white_above_10", group=entry_id)
            forged.append((key, entry))
        elif is_mask_folder(picture.folder):
            masks.append((key, picture.path, _entry_id(picture)))
        elif picture.folder == "pristine":
            entry_id = _entry_id(picture, "pristine")
            authentic.append(SourceEntry(entry_id, picture.path, label="authentic", group=_entry_id(picture)))
    return settle([*pair(forged, masks), *authentic]) if forged else []


def _entry_id(picture: Picture, *between: str) -> str:
    """Make the id ``camera__name``, or the name alone where the root is a camera's folder."""
    return sample_id("/".join([*picture.folders[-2:-1], *between, picture.stem]))
