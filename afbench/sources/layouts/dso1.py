"""DSO-1: people spliced into photographs.

``DSO-1/splicing-NN.png`` is forged, ``DSO-1/normal-NN.png`` genuine; the mask has the same name as the image and lies in
``DSO-1-Fake-Images-Masks``. Its masks are inverted: 0 is forged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, pair, pictures, settle

EXPECTS = "DSO-1/splicing-01.png, ... with DSO-1-Fake-Images-Masks/splicing-01.png, ..."

_NAME = re.compile(r"(splicing|normal)-\d+", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the spliced images with their masks, and the normal images."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        name = _NAME.fullmatch(picture.stem)
        if name is None:
            continue
        entry_id, key, spliced = (
            sample_id(picture.stem),
            picture.stem.lower(),
            name[1].lower() == "splicing",
        )
        if is_mask_folder(picture.folder):
            masks += [(key, picture.path, entry_id)] if spliced else []
        elif spliced:
            entry = SourceEntry(entry_id, picture.path, rule="black_at_0", group=entry_id, kind="splice")
            forged.append((key, entry))
        else:
            authentic.append(SourceEntry(entry_id, picture.path, label="authentic", group=entry_id))
    return settle([*pair(forged, masks), *authentic])
