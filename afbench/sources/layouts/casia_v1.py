"""CASIA v1.0: ``Sp_D_...`` splices and ``Sp_S_...`` copies at 384x256, masks by namtpham; 800 authentic images.

One forged image has no mask, some thirty are misnamed, and a few names hold a dot. Numbers at the end of names are
not unique: only whole names pair.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from afbench.sources.source_entry import SourceEntry

from .casia import Release, read_release

EXPECTS = "Tp/Sp/Sp_*.jpg and Tp/CM/Sp_*.jpg, their masks Sp_*_gt.png in another folder, Au/Au_*.jpg"

RELEASE = Release(
    name="casia_v1",
    forged=re.compile(r"Sp_([DS])_[A-Z]{3}_[A-Z]_[a-z]{3}\d{4}_[a-z]{3}\d{4}_\d{4}", re.IGNORECASE),
    authentic=re.compile(r"Au_[a-z]{3}_\d{4}", re.IGNORECASE),
    folders=("tp", "sp", "cm"),
    sister_prefix="tp_",
)


def entries(paths: Sequence[str], _read_text: Callable[[str], str]) -> list[SourceEntry]:
    """List forged images with their masks, and the authentic ones; samples with a common photograph form a group."""
    return read_release(RELEASE, paths)
