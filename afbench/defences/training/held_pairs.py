"""Pairs of one size, held on the device that trains: batches are cut there, all images of one at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from afbench.core import UsageError

from .batch_rules import CROP, BatchRules
from .pairs import Batch

GRID = 8
"""Crops start at multiples of this many pixels: off it, traces of JPEG's blocks would lie elsewhere in every crop."""


@runtime_checkable
class HeldPairs(Protocol):
    """Pairs that can give many items at once, as a batch on the device that trains."""

    def gather(self, indices: Sequence[int]) -> Batch: ...


def held_batches(
    pairs: HeldPairs,
    lists: Sequence[Sequence[int]],
    rules: BatchRules,
    side: int,
    *,
    shows_attacks: bool = True,
    draws_of: Sequence[Sequence[int]] = (),
) -> Iterator[Batch]:
    """Yield a batch for each list of indices, cut to ``side``.

    Args:
        draws_of: seeds of each batch's draws; without them nothing is random, and the middle is cut out.
    Raises:
        UsageError: if the rules resize, or the images are smaller than a crop.
    """
    for number, indices in enumerate(lists):
        batch = pairs.gather(indices)
        if rules.fit != CROP or min(batch.original.shape[-2:]) < side:
            raise UsageError(
                f"pairs held on a device are only cut, to at most their own size; found {rules.fit} to {side}"
            )
        if not draws_of:
            yield _middle(batch, side)
            continue
        rng = np.random.default_rng(draws_of[number])
        batch = _crop_at_random(batch, side, rng)
        if rules.vary is not None:
            batch = rules.vary(batch, rng, shows_attacks)
        yield _flip_at_random(batch, rng) if rules.flip else batch


def _middle(batch: Batch, side: int) -> Batch:
    height, width = batch.original.shape[-2:]
    top, left = ((length - side) // 2 // GRID * GRID for length in (height, width))
    return Batch(*(images[..., top : top + side, left : left + side] for images in batch))


def _crop_at_random(batch: Batch, side: int, rng: np.random.Generator) -> Batch:
    """Cut a square out of each image, at a place of its own."""
    count, device = len(batch.original), batch.original.device
    places = []
    for length in batch.original.shape[-2:]:
        starts = GRID * rng.integers(0, (length - side) // GRID + 1, size=count)
        places.append(torch.from_numpy(starts[:, None] + np.arange(side)).to(device))
    rows, columns = places
    image = torch.arange(count, device=device)[:, None, None]

    def cut(images: Tensor) -> Tensor:
        # indexing puts the channels last
        return images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    return Batch(*(cut(images) for images in batch))


def _flip_at_random(batch: Batch, rng: np.random.Generator) -> Batch:
    """Mirror and transpose each image of a batch of squares, or not."""
    choices = torch.from_numpy(rng.random((3, len(batch.original))) < 0.5).to(batch.original.device)
    upright, mirrored, transposed = choices.view(3, -1, 1, 1, 1)

    def turn(images: Tensor) -> Tensor:
        images = torch.where(upright, images, images.flip(-2))
        images = torch.where(mirrored, images, images.flip(-1))
        return torch.where(transposed, images, images.mT)

    return Batch(*(turn(images) for images in batch))
