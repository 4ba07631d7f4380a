"""IMD2020: forgeries found on the web, a folder for each original: ``1a07yi/c8tsf7x_0.jpg``, ``..._0_mask.png``.

Several forgeries share an original, so that a folder is a group. One mask is known to have another size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .files import Picture, pair, pictures, settle

EXPECTS = "<id>/*_0.jpg or <id>/*_fake.jpg with *_mask.png beside it, and <id>/*_orig.jpg"

_FOLDER = re.compile(r"[0-9a-z]+", re.IGNORECASE)
_FORGED = re.compile(r"[0-9a-z]+_\d+|\d{5}_fake(_\d+)?", re.IGNORECASE)
_ROLE = re.compile(r"(.+)_(mask|orig)", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Forgeries with the masks beside them, originals as authentic; ids are ``folder__stem``."""
    found = [one for one in pictures(paths) if one.folders and _FOLDER.fullmatch(one.folder)]
    forged, masks, others = [], [], []
    homes = {one.folders for one in found if _ROLE.fullmatch(one.stem)}
    for picture in found:
        role = _ROLE.fullmatch(picture.stem)
        if picture.folders not in homes:
            continue
        if role and role[2].lower() == "mask":
            if _FORGED.fullmatch(role[1]):
                masks.append((_key(picture, role[1]), picture.path, _id(picture, role[1])))
        elif role:
            known_as = _id(picture, picture.stem)
            others.append(Entry(known_as, picture.path, label="authentic", group=picture.folder))
        elif _FORGED.fullmatch(picture.stem):
            entry = Entry(_id(picture, picture.stem), picture.path, group=picture.folder)
            forged.append((_key(picture, picture.stem), entry))
        else:
            known_as = _id(picture, picture.stem)
            others.append(
                Entry(known_as, picture.path, problem="unknown_name", detail="no name of a forgery")
            )
    return settle([*pair(forged, masks), *others]) if masks else []


def _key(picture: Picture, stem: str) -> tuple[tuple[str, ...], str]:
    return picture.folders, stem.lower()


def _id(picture: Picture, stem: str) -> str:
    return sample_id(f"{picture.folder}/{stem}")
