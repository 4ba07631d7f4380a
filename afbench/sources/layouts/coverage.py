"""COVERAGE: copy-move with similar but genuine objects.

``image/N.tif`` is genuine, ``image/Nt.tif`` forged, ``mask/Nforged.tif`` its mask; ``copy`` and ``paste`` masks show
where the copy is from and where it went. Nine masks have another size than their image, which shows when they are read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, pair, pictures, settle

EXPECTS = "image/1t.tif, image/2t.tif, ... with mask/1forged.tif, mask/2forged.tif, ..."

_IMAGE = re.compile(r"(\d{1,3})(t?)", re.IGNORECASE)
_MASK = re.compile(r"(\d{1,3})forged", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the forged images with their masks, and the originals, each in the group of its forgery."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        if mask := _MASK.fullmatch(picture.stem):
            masks.append((mask[1], picture.path, sample_id(picture.stem)))
        elif (image := _IMAGE.fullmatch(picture.stem)) and not is_mask_folder(picture.folder):
            entry_id, number = sample_id(picture.stem), image[1]
            if image[2]:
                forged.append((number, SourceEntry(entry_id, picture.path, group=number, kind="copy_move")))
            else:
                authentic.append(SourceEntry(entry_id, picture.path, label="authentic", group=number))
    # files named by plain numbers alone could be of any release
    return settle([*pair(forged, masks), *authentic]) if forged or masks else []
