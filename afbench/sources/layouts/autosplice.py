"""AutoSplice: regions of news photographs painted anew by DALL-E 2, at three JPEG qualities.

``Forged_JPEG{100,90,75}/ID_K.jpg`` are forged, ``Authentic/ID.jpg`` the photographs, and one ``Mask/ID_mask.png``
serves every forgery of its ID, at all qualities. All images of one ID form a group, so that no split separates them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, pair, pictures, settle

EXPECTS = "Forged_JPEG100/62981_0.jpg, ... (or _JPEG90, _JPEG75) with Mask/62981_mask.png, ..."

_FORGED = re.compile(r"forged([^a-z0-9].*)?")
_MASK = re.compile(r"(.+)_mask", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the forgeries of every quality with the mask they share, and the photographs."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        photograph = picture.stem.partition("_")[0]
        if _FORGED.fullmatch(picture.folder):
            entry_id = sample_id(f"{picture.folders[-1]}/{picture.stem}")
            forged.append(
                (photograph, SourceEntry(entry_id, picture.path, rule="white_above_0", group=photograph))
            )
        elif is_mask_folder(picture.folder):
            if mask := _MASK.fullmatch(picture.stem):
                masks.append((mask[1], picture.path, sample_id(picture.stem)))
        elif picture.folder == "authentic":
            entry_id = sample_id(f"{picture.folders[-1]}/{picture.stem}")
            authentic.append(SourceEntry(entry_id, picture.path, label="authentic", group=photograph))
    return settle([*pair(forged, masks), *authentic]) if forged else []
