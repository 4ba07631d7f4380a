"""DSO-1: people spliced into photographs.

``DSO-1/splicing-NN.png`` is forged, ``DSO-1/normal-NN.png`` genuine; the mask has the image's very name and lies in
``DSO-1-Fake-Images-Masks``. Its masks are inverted: 0 is forged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .files import is_mask_folder, pair, pictures, settle

EXPECTS = "DSO-1/splicing-01.png, ... with DSO-1-Fake-Images-Masks/splicing-01.png, ..."

_NAME = re.compile(r"(splicing|normal)-\d+", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """The spliced images with their masks, and the normal ones."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        name = _NAME.fullmatch(picture.stem)
        if name is None:
            continue
        known_as, key, spliced = (
            sample_id(picture.stem),
            picture.stem.lower(),
            name[1].lower() == "splicing",
        )
        if is_mask_folder(picture.folder):
            masks += [(key, picture.path, known_as)] if spliced else []
        elif spliced:
            entry = Entry(known_as, picture.path, rule="black_at_0", group=known_as, kind="splice")
            forged.append((key, entry))
        else:
            authentic.append(Entry(known_as, picture.path, label="authentic", group=known_as))
    return settle([*pair(forged, masks), *authentic])
