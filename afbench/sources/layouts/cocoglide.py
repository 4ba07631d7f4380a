"""CocoGlide: objects of COCO photographs painted anew by GLIDE.

``fake/glide_inpainting_val2017_ID_up.png`` belongs to ``mask/CLASS_ID_mask.png`` and was made from
``real/CLASS_ID.png``: only the COCO id joins them. Classes have spaces (``dining table``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.sample_names import sample_id
from afbench.sources.source_entry import SourceEntry

from .picture_files import is_mask_folder, pair, pictures, settle

EXPECTS = "fake/glide_inpainting_val2017_114871_up.png, ... with mask/dining table_114871_mask.png, ..."

_FAKE = re.compile(r"glide_inpainting_val2017_(\d+)_up", re.IGNORECASE)
_MASK = re.compile(r".+_(\d+)_mask|glide_inpainting_val2017_(\d+)_up(?:_mask)?", re.IGNORECASE)
_REAL = re.compile(r".+_(\d+)", re.IGNORECASE)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List the painted images with their masks, and the photographs; both of one COCO id form a group."""
    forged, authentic, masks = [], [], []
    for picture in pictures(paths):
        entry_id = sample_id(picture.stem)
        if is_mask_folder(picture.folder):
            if mask := _MASK.fullmatch(picture.stem):
                masks.append((_coco_id(mask[1] or mask[2]), picture.path, entry_id))
        elif fake := _FAKE.fullmatch(picture.stem):
            key = _coco_id(fake[1])
            forged.append((key, SourceEntry(entry_id, picture.path, rule="white_above_0", group=key)))
        elif picture.folder in ("real", "authentic") and (real := _REAL.fullmatch(picture.stem)):
            authentic.append(SourceEntry(entry_id, picture.path, label="authentic", group=_coco_id(real[1])))
    return settle([*pair(forged, masks), *authentic]) if forged else []


def _coco_id(digits: str) -> str:
    return digits.lstrip("0") or "0"
