"""Defences without weights: what a recipient may do to an image before localizing."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from afbench.core import Defence, UsageError
from afbench.images import to_tensor

NONE, JPEG = "none", "jpeg"
JPEG_QUALITY = 75
"""Of libjpeg, with its 4:2:0 chroma: what most software saves by default."""


@dataclass(frozen=True)
class Purifier:
    """A defence in front of a localizer: ``apply`` maps ``(N, 3, H, W)`` in [0, 1] to the same shape and range."""

    name: str
    params: Mapping[str, int]
    deterministic: bool
    apply: Defence

    @property
    def label(self) -> str:
        """Name and settings, e.g. ``jpeg-75``."""
        return "-".join([self.name, *map(str, self.params.values())])


def load_defence(text: str) -> Purifier:
    """Read ``none``, ``jpeg`` or ``jpeg:QUALITY``.

    Raises:
        UsageError: if it is unknown, or the quality is no number from 1 to 100.
    """
    name, _, setting = text.partition(":")
    if name == NONE and not setting:
        return Purifier(NONE, {}, True, lambda image: image)
    if name == JPEG:
        quality = JPEG_QUALITY if not setting else int(setting) if setting.isdecimal() else 0
        if not 1 <= quality <= 100:
            raise UsageError(f"the quality of jpeg must be from 1 to 100; found '{setting}'")
        return Purifier(JPEG, {"quality": quality}, True, partial(jpeg, quality=quality))
    raise UsageError(f"defence '{text}' is unknown; known defences: {NONE}, {JPEG}, {JPEG}:QUALITY")


def jpeg(image: Tensor, *, quality: int) -> Tensor:
    """Save and reload each image as JPEG, 8 bits, 4:2:0 chroma; no gradient.

    Source: Dziugaite et al. 2016, arXiv 1608.00853.
    """
    levels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    reloaded = []
    for pixels in levels:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        reloaded.append(np.asarray(Image.open(stream)))
    return to_tensor(reloaded, str(image.device)).to(image.dtype)
