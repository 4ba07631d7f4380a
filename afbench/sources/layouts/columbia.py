"""Columbia uncompressed splicing: two cameras in one picture, its mask a coloured JPEG.

Green is taken as spliced, as most users of the release do; the opposite reading is ``SourceOptions.invert``. The
masks ``*_edgemask_3`` show a band around the seam and are not read. In some copies of the release the masks lie in a
folder ``mask``, are named like their image and may be redrawn in grey; where the release's own masks are there too,
they are the ones read. Names tell which cameras a splice joins but not which photographs, so a group is a pair of
cameras.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, pair, pictures, settle

EXPECTS = "4cam_splc/*.tif with 4cam_splc/edgemask/*_edgemask.jpg (or mask/* of the same names), and 4cam_auth/*.tif"

_CAMERA = "canong3|nikond70|canonxt|kodakdcs330"
_SPLICE = re.compile(rf"((?:{_CAMERA})_(?:{_CAMERA}))_sub_\d{{2}}", re.IGNORECASE)
_AUTHENTIC = re.compile(rf"({_CAMERA})_\d{{2}}_sub_\d{{2}}", re.IGNORECASE)
_EDGEMASK = re.compile(r"(.*)_edgemask(_\d)?", re.IGNORECASE)
_ENDING = re.compile(r"_(gt|mask)$", re.IGNORECASE)
_REDRAWN = re.compile(rf"(?:{_CAMERA})_.*_(gt|mask)", re.IGNORECASE)
_FOLDERS = ("4cam_splc", "4cam_auth")


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List splices with their masks, and the photographs of single cameras as authentic."""
    forged, masks, copied_masks, other_entries = [], [], [], []
    for picture in pictures(paths):
        entry_id = sample_id(picture.stem)
        if mask := _EDGEMASK.fullmatch(picture.stem):
            if _SPLICE.fullmatch(mask[1]) and not mask[2]:
                masks.append((mask[1].lower(), picture.path, sample_id(mask[1])))
        elif is_mask_folder(picture.folder) or _REDRAWN.fullmatch(picture.stem):
            stem = _ENDING.sub("", picture.stem)
            if _SPLICE.fullmatch(stem):
                copied_masks.append((stem.lower(), picture.path, sample_id(stem)))
        elif splice := _SPLICE.fullmatch(picture.stem):
            entry = SourceEntry(entry_id, picture.path, rule="green", group=splice[1].lower(), kind="splice")
            forged.append((picture.stem.lower(), entry))
        elif camera := _AUTHENTIC.fullmatch(picture.stem):
            other_entries.append(
                SourceEntry(entry_id, picture.path, label="authentic", group=camera[1].lower())
            )
        elif picture.folder in _FOLDERS:
            other_entries.append(
                SourceEntry(entry_id, picture.path, problem="unknown_name", detail="no name of two cameras")
            )
    released_keys = {key for key, _, _ in masks}
    copied_masks = [mask for mask in copied_masks if mask[0] not in released_keys]
    copied_keys = {key for key, _, _ in copied_masks}
    forged = [
        (key, replace(entry, rule="green_or_white") if key in copied_keys else entry) for key, entry in forged
    ]
    return (
        settle([*pair(forged, [*masks, *copied_masks]), *other_entries])
        if forged or masks or copied_masks
        else []
    )
