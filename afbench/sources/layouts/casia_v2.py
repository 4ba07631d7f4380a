"""CASIA v2.0: ``Tp_D_...`` splices and ``Tp_S_...`` copies of many sizes, masks by namtpham; 7,491 authentic images.

Seventeen masks are rotated or have another size than their image, which shows when they are read. Names were
corrected later, one mask ends in ``_gt3``, and twenty-three authentic photographs are there twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.source_entry import SourceEntry

from .casia import Release, read_release

EXPECTS = "Tp/Tp_*.tif and .jpg, their masks Tp_*_gt.png in another folder, Au/Au_*.jpg and .bmp"

RELEASE = Release(
    name="casia_v2",
    forged=re.compile(r"Tp_([DS])_[A-Z]{3}_[A-Z]_[A-Z]_[a-z]{3}\d{4,5}_[a-z]{3}\d{4,5}_\d{5}", re.IGNORECASE),
    authentic=re.compile(r"Au_[a-z]{3}_\d{5}", re.IGNORECASE),
    folders=("tp",),
    sister_prefix="sp_",
)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List forged images with their masks, and the authentic ones; samples with a common photograph form a group."""
    return read_release(RELEASE, paths)
