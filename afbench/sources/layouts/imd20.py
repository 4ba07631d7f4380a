"""IMD2020: forgeries found on the web, a folder for each original: ``1a07yi/c8tsf7x_0.jpg``, ``..._0_mask.png``.

Several forgeries share an original, so that a folder is a group. One mask is known to have another size. Copies go
about as ``tampered/ mask/ orig/``: there names pair, and no group is known where no folder tells the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from . import folder
from .files import Picture, pair, pictures, settle

EXPECTS = (
    "<id>/*_0.jpg or <id>/*_fake.jpg with *_mask.png beside it, and <id>/*_orig.jpg; or tampered/ (or fake_img/), mask/ "
    "and orig/"
)

_FOLDER = re.compile(r"[0-9a-z]+", re.IGNORECASE)
_FORGED = re.compile(r"[0-9a-z]+_\d+|\d{5}_fake(_\d+)?", re.IGNORECASE)
_ORIGINALS = ("orig", "original", "originals", "authentic", "real")
_ROLES = (*folder.IMAGE_FOLDERS, *folder.FORGED_FOLDERS, *_ORIGINALS)
_ROLE = re.compile(r"(.+)_(mask|orig)", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Forgeries with the masks beside them, originals as authentic; ids are ``folder__stem``, in folders by role paths."""
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
    paired = pair(forged, masks)
    if not any(entry.image and entry.masks for entry in paired) and (by_role := _by_role(paths)):
        return by_role
    return settle([*paired, *others]) if masks else []


def _by_role(paths: Sequence[str]) -> list[Entry]:
    """Forgeries, masks and originals in a folder each; [] if there are none."""
    forged = [_grouped(entry) for entry in folder.entries(paths, str)]
    if not any(entry.image and entry.masks for entry in forged):
        return []
    others = []
    for picture in pictures(paths):
        at = next((at for at, name in enumerate(picture.folders) if name.lower() in _ORIGINALS), None)
        if at is not None:
            known_as = sample_id("/".join((*picture.folders[at + 1 :], picture.stem)))
            others.append(_grouped(Entry(known_as, picture.path, label="authentic", group=known_as)))
    taken = {entry.sample_id for entry in forged}
    renamed = [
        replace(one, sample_id=f"{one.sample_id}-orig") if one.sample_id in taken else one for one in others
    ]
    return settle([*forged, *renamed])


def _grouped(entry: Entry) -> Entry:
    """An entry with the group of the folder below its role, where the copy kept those of the release."""
    folders = (entry.image or "").split("/")[:-1]
    at = next((at for at, name in enumerate(folders) if name.lower() in _ROLES), len(folders))
    return replace(entry, group=folders[-1]) if folders[at + 1 :] else entry


def _key(picture: Picture, stem: str) -> tuple[tuple[str, ...], str]:
    return picture.folders, stem.lower()


def _id(picture: Picture, stem: str) -> str:
    return sample_id(f"{picture.folder}/{stem}")
