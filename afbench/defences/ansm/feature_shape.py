"""The shape of what an encoder puts out."""

from __future__ import annotations

from typing import NamedTuple


class FeatureShape(NamedTuple):
    """Channels of an encoder's feature maps, fine to coarse, and the fraction of the side each has (1, 2, 4, ...)."""

    channels: tuple[int, ...]
    reductions: tuple[int, ...]
