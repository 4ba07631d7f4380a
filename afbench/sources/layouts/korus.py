"""Realistic tampering (Korus): forgeries made by hand on photographs of four cameras.

``<camera>/tampered-realistic/NAME.TIF`` is forged, ``<camera>/pristine/NAME.TIF`` its original and
``<camera>/ground-truth/NAME.PNG`` its mask of three levels: white is what was changed, grey what was damaged on the
way, and both are forged. One name may occur with several cameras, so an id begins with the camera's folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .files import Picture, is_mask_folder, pair, pictures, settle

EXPECTS = "Canon_60D/tampered-realistic/*.TIF with Canon_60D/ground-truth/*.PNG, and other cameras likewise"

_FORGED = re.compile(r"tampered([^a-z0-9].*)?")


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """The tampered images with their masks and the pristine ones; both of one name share a group."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        key = ("/".join(picture.folders[:-1]), picture.stem)
        if _FORGED.fullmatch(picture.folder):
            known_as = _known_as(picture)
            entry = Entry(known_as, picture.path, rule="white_above_10", group=known_as)
            forged.append((key, entry))
        elif is_mask_folder(picture.folder):
            masks.append((key, picture.path, _known_as(picture)))
        elif picture.folder == "pristine":
            known_as = _known_as(picture, "pristine")
            authentic.append(Entry(known_as, picture.path, label="authentic", group=_known_as(picture)))
    return settle([*pair(forged, masks), *authentic]) if forged else []


def _known_as(picture: Picture, *between: str) -> str:
    """``camera__name``, or the name alone where the root is a camera's folder."""
    return sample_id("/".join([*picture.folders[-2:-1], *between, picture.stem]))
