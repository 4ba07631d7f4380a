"""IMD2020: forgeries found on the web, one folder for each original: ``1a07yi/c8tsf7x_0.jpg``, ``..._0_mask.png``.

Several forgeries share an original, so a folder is a group. One mask is known to have another size. Some copies have
the folders ``tampered/ mask/ orig/`` instead: there files pair by name, and without a folder for each original no
group is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from . import folder
from .picture_files import Picture, pair, pictures, settle

EXPECTS = (
    "<id>/*_0.jpg or <id>/*_fake.jpg with *_mask.png beside it, and <id>/*_orig.jpg; or tampered/ (or fake_img/), mask/ "
    "and orig/"
)

_FOLDER = re.compile(r"[0-9a-z]+", re.IGNORECASE)
_FORGED = re.compile(r"[0-9a-z]+_\d+|\d{5}_fake(_\d+)?", re.IGNORECASE)
_ORIGINALS = ("orig", "original", "originals", "authentic", "real")
_ROLES = (*folder.IMAGE_FOLDERS, *folder.FORGED_FOLDERS, *_ORIGINALS)
_ROLE = re.compile(r"(.+)_(mask|orig)", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List forgeries with their masks, and originals as authentic; ids are ``folder__stem``, or paths in folders by role."""
    in_folders = [
        picture for picture in pictures(paths) if picture.folders and _FOLDER.fullmatch(picture.folder)
    ]
    forged, masks, other_entries = [], [], []
    homes = {picture.folders for picture in in_folders if _ROLE.fullmatch(picture.stem)}
    for picture in in_folders:
        role = _ROLE.fullmatch(picture.stem)
        # a folder without any mask or original is no folder of the release
        if picture.folders not in homes:
            continue
        if role and role[2].lower() == "mask":
            if _FORGED.fullmatch(role[1]):
                masks.append((_key(picture, role[1]), picture.path, _id(picture, role[1])))
        elif role:
            entry_id = _id(picture, picture.stem)
            other_entries.append(SourceEntry(entry_id, picture.path, label="authentic", group=picture.folder))
        elif _FORGED.fullmatch(picture.stem):
            entry = SourceEntry(_id(picture, picture.stem), picture.path, group=picture.folder)
            forged.append((_key(picture, picture.stem), entry))
        else:
            entry_id = _id(picture, picture.stem)
            other_entries.append(
                SourceEntry(entry_id, picture.path, problem="unknown_name", detail="no name of a forgery")
            )
    paired = pair(forged, masks)
    if not any(entry.image and entry.masks for entry in paired) and (by_role := _by_role(paths)):
        return by_role
    return settle([*paired, *other_entries]) if masks else []


def _by_role(paths: Sequence[str]) -> list[SourceEntry]:
    """List forgeries, masks and originals that lie in a folder each; [] if there are none."""
    forged = [_grouped(entry) for entry in folder.entries(paths, str)]
    if not any(entry.image and entry.masks for entry in forged):
        return []
    other_entries = []
    for picture in pictures(paths):
        position = next(
            (position for position, name in enumerate(picture.folders) if name.lower() in _ORIGINALS), None
        )
        if position is not None:
            entry_id = sample_id("/".join((*picture.folders[position + 1 :], picture.stem)))
            other_entries.append(
                _grouped(SourceEntry(entry_id, picture.path, label="authentic", group=entry_id))
            )
    # in folders by role, a forgery and its original may have the same name
    forged_ids = {entry.sample_id for entry in forged}
    renamed = [
        replace(entry, sample_id=f"{entry.sample_id}-orig") if entry.sample_id in forged_ids else entry
        for entry in other_entries
    ]
    return settle([*forged, *renamed])


def _grouped(entry: SourceEntry) -> SourceEntry:
    """Give an entry the group of its folder, where the copy kept the release's folders below ``tampered/`` and ``orig/``."""
    folders = (entry.image or "").split("/")[:-1]
    position = next(
        (position for position, name in enumerate(folders) if name.lower() in _ROLES), len(folders)
    )
    return replace(entry, group=folders[-1]) if folders[position + 1 :] else entry


def _key(picture: Picture, stem: str) -> tuple[tuple[str, ...], str]:
    return picture.folders, stem.lower()


def _id(picture: Picture, stem: str) -> str:
    return sample_id(f"{picture.folder}/{stem}")
