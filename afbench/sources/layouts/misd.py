"""MISD: splices of several objects, with one mask for each object; what any of them marks is forged.

``Ground Truth Masks/<image>/`` holds a copy of the image in ``images/`` and its masks in ``masks/``; it is named
after the image, or else its copy is. Names list the photographs a splice is made of, in varying number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .casia import photographs
from .files import Picture, pictures, settle
from .photographs import connect

EXPECTS = "Sp/Sp_*.png, Ground Truth Masks/<image>/masks/*.png, and Au/*.jpg"

_FORGED = re.compile(r"Sp_[DS](?:_[a-z]{3}_\d{3,6})+_\d+", re.IGNORECASE)
_AUTHENTIC = re.compile(r"Au_.+", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Splices with all their masks, and the authentic photographs; photographs in common make a group."""
    found = pictures(paths)
    homes = {one.folders[:-1] for one in found if one.folder == "masks"}
    inside = [one for one in found if one.folders[:-1] in homes and one.folder in ("masks", "images")]
    masks = _masks(inside)
    paths_inside = {one.path for one in inside}
    images = [one for one in found if one.path not in paths_inside]
    stems = {one.stem.lower() for one in images}
    listed = [entry for one in images for entry in _image(one, masks.get(one.stem.lower(), []))]
    for name, files in (
        (name, files) for key, rows in masks.items() if key not in stems for name, files in rows
    ):
        detail = f"only its masks, {files[0]!r} and more"
        listed.append(Entry(sample_id(name), None, files, problem="missing_image", detail=detail))
    return settle(_grouped(listed)) if any(_FORGED.fullmatch(one.sample_id) for one in listed) else []


def _masks(inside: list[Picture]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Name and mask files of every per-image folder that is named after a splice or holds one's copy."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    by_home: dict[tuple[str, ...], list[Picture]] = {}
    for one in inside:
        by_home.setdefault(one.folders[:-1], []).append(one)
    for home, own in by_home.items():
        names = [*home[-1:], *(one.stem for one in own if one.folder == "images")]
        files = tuple(one.path for one in own if one.folder == "masks")
        name = next((name for name in names if _FORGED.fullmatch(name)), None)
        if name:
            found.setdefault(name.lower(), []).append((name, files))
    return found


def _image(picture: Picture, masks: list[tuple[str, tuple[str, ...]]]) -> list[Entry]:
    entry = Entry(sample_id(picture.stem), picture.path, kind="splice")
    if _FORGED.fullmatch(picture.stem):
        if len(masks) == 1:
            return [replace(entry, masks=masks[0][1])]
        if masks:
            detail = f"{len(masks)} folders of masks have its name"
            return [replace(entry, problem="ambiguous_mask", detail=detail)]
        return [replace(entry, problem="missing_mask", detail="no folder of masks of its name")]
    if picture.folder == "au" or _AUTHENTIC.fullmatch(picture.stem):
        return [replace(entry, label="authentic", kind="")]
    if picture.folder == "sp":
        return [replace(entry, problem="unknown_name", detail="no name of a splice")]
    return []


def _grouped(entries: list[Entry]) -> list[Entry]:
    used = [photographs(entry.sample_id) for entry in entries]
    groups = connect(used)
    return [
        replace(entry, group=groups[ids[0]] if ids else entry.sample_id)
        for entry, ids in zip(entries, used, strict=True)
    ]
