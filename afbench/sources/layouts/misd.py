"""MISD: splices of several objects, with one mask for each object; a pixel is forged if any of them marks it.

``Ground Truth Masks/<image>/`` holds a copy of the image in ``images/`` and its masks in ``masks/``; either the
folder or the copy is named like the image. Names list the photographs a splice is made of, in varying number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .casia import photographs
from .photograph_groups import group_photographs
from .picture_files import Picture, pictures, settle

EXPECTS = "Sp/Sp_*.png, Ground Truth Masks/<image>/masks/*.png, and Au/*.jpg"

_FORGED = re.compile(r"Sp_[DS](?:_[a-z]{3}_\d{3,6})+_\d+", re.IGNORECASE)
_AUTHENTIC = re.compile(r"Au_.+", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List splices with all their masks, and the authentic photographs; samples with a common photograph form a group."""
    all_pictures = pictures(paths)
    # the copies of images in these folders are no samples of their own
    homes = {picture.folders[:-1] for picture in all_pictures if picture.folder == "masks"}
    mask_pictures = [
        picture
        for picture in all_pictures
        if picture.folders[:-1] in homes and picture.folder in ("masks", "images")
    ]
    masks = _masks(mask_pictures)
    mask_picture_paths = {picture.path for picture in mask_pictures}
    images = [picture for picture in all_pictures if picture.path not in mask_picture_paths]
    stems = {picture.stem.lower() for picture in images}
    all_entries = [
        entry for picture in images for entry in _image(picture, masks.get(picture.stem.lower(), []))
    ]
    for name, files in (
        (name, files) for key, rows in masks.items() if key not in stems for name, files in rows
    ):
        detail = f"only its masks, {files[0]!r} and more"
        all_entries.append(SourceEntry(sample_id(name), None, files, problem="missing_image", detail=detail))
    return (
        settle(_grouped(all_entries))
        if any(_FORGED.fullmatch(entry.sample_id) for entry in all_entries)
        else []
    )


def _masks(mask_pictures: list[Picture]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return name and mask files of every folder that is named after a splice or holds its copy, by name in lower case."""
    masks: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    by_home: dict[tuple[str, ...], list[Picture]] = {}
    for picture in mask_pictures:
        by_home.setdefault(picture.folders[:-1], []).append(picture)
    for home, in_home in by_home.items():
        names = [*home[-1:], *(picture.stem for picture in in_home if picture.folder == "images")]
        files = tuple(picture.path for picture in in_home if picture.folder == "masks")
        name = next((name for name in names if _FORGED.fullmatch(name)), None)
        if name:
            masks.setdefault(name.lower(), []).append((name, files))
    return masks


def _image(picture: Picture, masks: list[tuple[str, tuple[str, ...]]]) -> list[SourceEntry]:
    entry = SourceEntry(sample_id(picture.stem), picture.path, kind="splice")
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


def _grouped(entries: list[SourceEntry]) -> list[SourceEntry]:
    photograph_ids = [photographs(entry.sample_id) for entry in entries]
    groups = group_photographs(photograph_ids)
    return [
        replace(entry, group=groups[ids[0]] if ids else entry.sample_id)
        for entry, ids in zip(entries, photograph_ids, strict=True)
    ]
