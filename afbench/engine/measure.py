"""What a localizer says of stored 8-bit images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from afbench.core import ByteImage, Localizer
from afbench.images import masks_to_tensor, to_tensor
from afbench.losses import binary_cross_entropy
from afbench.metrics import Counts, count_pixels


@dataclass(frozen=True)
class Judged:
    """Pixel counts and loss of one image, and the predicted mask, uint8 ``(H, W)`` of 0 and 255."""

    counts: Counts
    loss: float
    predicted: ByteImage


def judge(
    localizer: Localizer,
    images: Sequence[ByteImage],
    masks: Sequence[ByteImage],
    *,
    batch_size: int,
    device: str,
) -> list[Judged]:
    """Localize 8-bit images of any sizes: forged where the probability is above the localizer's threshold."""
    found: list[Judged | None] = [None] * len(images)
    for rows in equal_sizes(images, batch_size):
        batch = to_tensor([images[row] for row in rows], device)
        truth = masks_to_tensor([masks[row] for row in rows], device)
        with torch.no_grad():
            probability = localizer.probability(batch).float()
            loss = binary_cross_entropy(localizer.logits(batch).float(), truth)
        predicted = (probability[:, 0] > localizer.threshold).cpu().numpy()
        for position, row in enumerate(rows):
            found[row] = Judged(
                count_pixels(predicted[position], masks[row] > 127),
                float(loss[position]),
                np.where(predicted[position], np.uint8(255), np.uint8(0)),
            )
    return [one for one in found if one is not None]


def equal_sizes(images: Sequence[ByteImage], most: int) -> list[list[int]]:
    """Row numbers in batches of at most ``most`` images of one size, in a fixed order."""
    sizes: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(row)
    return [rows[first : first + most] for rows in sizes.values() for first in range(0, len(rows), most)]
