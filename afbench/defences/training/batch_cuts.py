"""How the images of a step are brought to its size, varied and turned: those of a batch at once, on their device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from afbench.defences.padding import pad_to
from afbench.images import resize

from .batch_rules import ANTIALIASED, CROP, BatchRules
from .pairs import Batch

GRID = 8
"""Crops start at multiples of this many pixels: off it, traces of JPEG's blocks would lie elsewhere in every crop."""


def cut(batch: Batch, rules: BatchRules, side: int) -> Batch:
    """Bring a batch to ``side`` x ``side`` pixels: resized, or the middle; smaller images are continued by reflection."""
    if rules.fit != CROP:
        return _resize(batch, rules.fit, side)
    batch = _pad(batch, side)
    count = len(batch.original)
    starts = [np.full(count, (length - side) // 2 // GRID * GRID) for length in batch.original.shape[-2:]]
    return _squares(batch, side, starts)


def cut_at_random(
    batch: Batch, rules: BatchRules, side: int, rng: np.random.Generator, shows_attacks: bool
) -> Batch:
    """Bring a batch to ``side`` x ``side`` pixels, each image cut at a place of its own; then vary and turn it as the rules ask."""
    if rules.fit == CROP:
        batch = _pad(batch, side)
        count = len(batch.original)
        starts = [
            GRID * rng.integers(0, (length - side) // GRID + 1, size=count)
            for length in batch.original.shape[-2:]
        ]
        batch = _squares(batch, side, starts)
    else:
        batch = _resize(batch, rules.fit, side)
    if rules.vary is not None:
        batch = rules.vary(batch, rng, shows_attacks)
    return _flip_at_random(batch, rng) if rules.flip else batch


def _resize(batch: Batch, fit: str, side: int) -> Batch:
    size = (side, side)
    return Batch(
        resize(batch.original, size, antialias=fit == ANTIALIASED),
        resize(batch.attacked, size, antialias=fit == ANTIALIASED),
        F.interpolate(batch.mask, size, mode="nearest"),  # stays 0 or 1
    )


def _pad(batch: Batch, side: int) -> Batch:
    height, width = batch.original.shape[-2:]
    return Batch(*(pad_to(images, max(height, side), max(width, side)) for images in batch))


def _squares(batch: Batch, side: int, starts: Sequence[np.ndarray]) -> Batch:
    """Cut a square out of each image, from its first row and column on."""
    device = batch.original.device
    rows, columns = (torch.from_numpy(first[:, None] + np.arange(side)).to(device) for first in starts)
    number = torch.arange(len(rows), device=device)[:, None, None]

    def squares(images: Tensor) -> Tensor:
        # indexing puts the channels last
        return images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return Batch(*(squares(images) for images in batch))


def _flip_at_random(batch: Batch, rng: np.random.Generator) -> Batch:
    """Mirror and transpose each image of a batch of squares, or not."""
    choices = torch.from_numpy(rng.random((3, len(batch.original))) < 0.5).to(batch.original.device)
    upside_down, mirrored, transposed = choices.view(3, -1, 1, 1, 1)

    def turn(images: Tensor) -> Tensor:
        images = torch.where(upside_down, images.flip(-2), images)
        images = torch.where(mirrored, images.flip(-1), images)
        return torch.where(transposed, images.mT, images)

    return Batch(*(turn(images) for images in batch))
