"""Columbia uncompressed splicing: two cameras in one picture, its mask a coloured JPEG.

Green is taken as spliced, as most users of the release do; the opposite reading is ``SourceOptions.invert``. The
masks ``*_edgemask_3`` show a band around the seam and are not read. Copies go about whose masks lie in a folder ``mask``,
redrawn in grey or not, called like their image; the release's own count where there are both. Names tell which cameras a splice joins but not
which photographs, so that a group is a pair of cameras.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.sources.entry import Entry
from afbench.sources.names import sample_id

from .files import is_mask_folder, pair, pictures, settle

EXPECTS = "4cam_splc/*.tif with 4cam_splc/edgemask/*_edgemask.jpg (or mask/* of the same names), and 4cam_auth/*.tif"

_CAMERA = "canong3|nikond70|canonxt|kodakdcs330"
_SPLICE = re.compile(rf"((?:{_CAMERA})_(?:{_CAMERA}))_sub_\d{{2}}", re.IGNORECASE)
_AUTHENTIC = re.compile(rf"({_CAMERA})_\d{{2}}_sub_\d{{2}}", re.IGNORECASE)
_EDGEMASK = re.compile(r"(.*)_edgemask(_\d)?", re.IGNORECASE)
_ENDING = re.compile(r"_(gt|mask)$", re.IGNORECASE)
_REDRAWN = re.compile(rf"(?:{_CAMERA})_.*_(gt|mask)", re.IGNORECASE)
_FOLDERS = ("4cam_splc", "4cam_auth")


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[Entry]:
    """Splices with their masks, and the photographs of single cameras as authentic."""
    forged, masks, redrawn, others = [], [], [], []
    for picture in pictures(paths):
        known_as = sample_id(picture.stem)
        if mask := _EDGEMASK.fullmatch(picture.stem):
            if _SPLICE.fullmatch(mask[1]) and not mask[2]:
                masks.append((mask[1].lower(), picture.path, sample_id(mask[1])))
        elif is_mask_folder(picture.folder) or _REDRAWN.fullmatch(picture.stem):
            stem = _ENDING.sub("", picture.stem)
            if _SPLICE.fullmatch(stem):
                redrawn.append((stem.lower(), picture.path, sample_id(stem)))
        elif splice := _SPLICE.fullmatch(picture.stem):
            entry = Entry(known_as, picture.path, rule="green", group=splice[1].lower(), kind="splice")
            forged.append((picture.stem.lower(), entry))
        elif camera := _AUTHENTIC.fullmatch(picture.stem):
            others.append(Entry(known_as, picture.path, label="authentic", group=camera[1].lower()))
        elif picture.folder in _FOLDERS:
            others.append(
                Entry(known_as, picture.path, problem="unknown_name", detail="no name of two cameras")
            )
    own = {key for key, _, _ in masks}
    redrawn = [mask for mask in redrawn if mask[0] not in own]
    grey = {key for key, _, _ in redrawn}
    forged = [(key, replace(entry, rule="green_or_white") if key in grey else entry) for key, entry in forged]
    return settle([*pair(forged, [*masks, *redrawn]), *others]) if forged or masks or redrawn else []
