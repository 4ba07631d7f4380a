"""What a localizer says of stored 8-bit images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from afbench.core import ByteImage, Defence, FloatImage, Localizer, UsageError
from afbench.images import masks_to_tensor, to_tensor
from afbench.losses import binary_cross_entropy
from afbench.metrics import Counts, count_pixels

from .memory import OutOfMemory, fits

PIXELS_AT_ONCE = 16 * 128 * 128
"""Of a launch on a CPU whose size nobody chose: larger ones are slower (docs/benchmarks.md)."""
GPU_KIB_AT_ONCE = 12 * 2**20
"""Memory such a launch on a GPU may take: 12 GiB, so that smaller cards run too; --batch-size asks for more."""
KIB_PER_PIXEL = 4.0
"""Of one gradient on a localizer that does not say."""


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
    batch_size: int | None,
    device: str,
    on_judged: Callable[[int], None] = lambda images: None,
) -> list[Judged]:
    """Localize 8-bit images of any sizes: forged where the probability is above the localizer's threshold.

    ``batch_size`` None leaves it to ``launch_size``; launches that do not fit into memory are halved. ``on_judged`` is
    told how many images were just looked at.

    Raises:
        OutOfMemory: if an image does not fit by itself.
    """
    found: dict[int, Judged] = {}

    def look(rows: Sequence[int]) -> None:
        batch = to_tensor([images[row] for row in rows], device)
        truth = masks_to_tensor([masks[row] for row in rows], device)
        with torch.no_grad():
            probability, logits = _look(localizer, batch)
            loss = binary_cross_entropy(logits.float(), truth)
        predicted = (probability[:, 0].float() > localizer.threshold).cpu().numpy()
        for position, row in enumerate(rows):
            found[row] = Judged(
                count_pixels(predicted[position], masks[row] > 127),
                float(loss[position]),
                np.where(predicted[position], np.uint8(255), np.uint8(0)),
            )

    waiting = equal_sizes(images, lambda size: launch_size(localizer, size, device, batch_size))[::-1]
    while waiting:
        rows = waiting.pop()
        if fits(partial(look, rows)):
            on_judged(len(rows))
            continue
        if len(rows) == 1:
            height, width = images[rows[0]].shape[:2]
            raise OutOfMemory(
                f"out of memory: the localizer does not fit one image of {height}x{width}; leave it out"
            )
        half = len(rows) // 2
        waiting += [rows[half:], rows[:half]]
    return [found[row] for row in range(len(images))]


def localize(
    localizer: Localizer,
    images: Sequence[ByteImage],
    *,
    defence: Defence,
    batch_size: int | None,
    device: str,
) -> Iterator[tuple[int, FloatImage]]:
    """Yield the number of each 8-bit image and its probability map, float32 ``(H, W)``, behind a defence."""
    for rows in equal_sizes(images, lambda size: launch_size(localizer, size, device, batch_size)):
        with torch.no_grad():
            purified = defence(to_tensor([images[row] for row in rows], device))
            maps = require_map(localizer.probability(purified), purified, "the probability")
            levels = maps[:, 0].float().cpu().numpy()
        yield from zip(rows, levels, strict=True)


def _look(localizer: Localizer, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and logits; in one pass through the network where the localizer offers it."""
    both = getattr(localizer, "probability_and_logits", None)
    probability, logits = both(batch) if both else (localizer.probability(batch), localizer.logits(batch))
    return require_map(probability, batch, "the probability"), require_map(logits, batch, "the logits")


def require_map(scores: Tensor, image: Tensor, what: str) -> Tensor:
    """Refuse what would be broadcast over channels or over the batch, and so attack something else than is scored.

    Raises:
        UsageError: unless there is one value for each pixel of each image.
    """
    wanted, found = (len(image), 1, *image.shape[-2:]), tuple(getattr(scores, "shape", ()))
    if found != wanted:
        raise UsageError(
            f"{what} of the localizer must have shape {wanted}; found {found or type(scores).__name__}; "
            "try `afbench weights check` on it"
        )
    return scores


def launch_size(localizer: Localizer, size: tuple[int, int], device: str, batch_size: int | None) -> int:
    """How many images of ``size`` (height, width) one launch of a localizer takes.

    As asked, or as many as suit the device: a rule of sizes alone, so that the same run launches the same batches again.
    """
    if batch_size is not None:
        return batch_size
    side = getattr(localizer, "side", None)
    pixels = side * side if side else size[0] * size[1]
    if device.startswith("cuda"):
        return max(1, int(GPU_KIB_AT_ONCE / getattr(localizer, "kib_per_pixel", KIB_PER_PIXEL)) // pixels)
    return max(1, PIXELS_AT_ONCE // pixels)


def equal_sizes(images: Sequence[ByteImage], most: Callable[[tuple[int, int]], int]) -> list[list[int]]:
    """Row numbers in batches of one size, of at most ``most(size)`` images each, in a fixed order."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault((image.shape[0], image.shape[1]), []).append(row)
    return [
        rows[first : first + most(size)]
        for size, rows in sizes.items()
        for first in range(0, len(rows), most(size))
    ]
