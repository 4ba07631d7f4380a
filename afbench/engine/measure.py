"""Run a localizer on stored 8-bit images, and count what it gets right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from afbench.core import ByteImage, Defence, FloatImage, Localizer, Sample, UsageError
from afbench.images import masks_to_tensor, resize, to_tensor
from afbench.losses import binary_cross_entropy
from afbench.metrics import Counts, count_pixels
from afbench.safe_convolutions import safe_convolutions

from .memory import OutOfMemory, fits
from .precision import compute_precision

PIXELS_AT_ONCE = 16 * 128 * 128
"""Pixels of a batch on a CPU where no batch size is given: larger ones are slower (docs/benchmarks)."""
GPU_KIB_AT_ONCE = 12 * 2**20
"""Memory of such a batch on a GPU: 12 GiB, so that smaller cards run too; --batch-size asks for more."""
KIB_PER_PIXEL = 4.0
"""Memory of one gradient, per pixel, on a localizer that does not state its own."""
Levels: TypeAlias = "Sequence[ByteImage | Tensor]"
"""8-bit images ``(H, W, 3)`` or masks ``(H, W)``: arrays, or tensors on the device that judges them."""


@dataclass(frozen=True)
class Judged:
    """A localizer's result on one image: pixel counts, loss, and the predicted mask, uint8 ``(H, W)`` of 0 and 255."""

    counts: Counts
    loss: float
    predicted: ByteImage


class Localized(NamedTuple):
    """What a localizer says of an image: its number, the probability map, float32 ``(H, W)``, and the localizer's own score of
    the whole image, NaN where it has none.
    """

    number: int
    probability: FloatImage
    own_score: float


def judge(
    localizer: Localizer,
    images: Levels,
    masks: Levels,
    *,
    batch_size: int | None,
    device: str,
    on_judged: Callable[[int], None] = lambda images: None,
) -> list[Judged]:
    """Localize 8-bit images of any sizes: forged where the probability is above the localizer's threshold.

    Images and masks are arrays, or the tensors that ``upload`` makes of them, which are not copied to the device again.

    ``batch_size`` None leaves it to ``batch_size_for``; batches that do not fit into memory are halved. ``on_judged`` is
    called with the number of images just judged.

    Raises:
        OutOfMemory: if an image does not fit by itself.
    """
    results: dict[int, Judged] = {}

    def judge_rows(rows: Sequence[int]) -> None:
        batch = to_tensor([images[row] for row in rows], device)
        truth = masks_to_tensor([masks[row] for row in rows], device)
        with torch.no_grad(), safe_convolutions(localizer):
            probability, logits = _look(localizer, batch)
            loss = binary_cross_entropy(logits.float(), truth)
        predicted = (probability[:, 0].float() > localizer.threshold).cpu().numpy()
        forged = (truth[:, 0] > 0).cpu().numpy()
        for position, row in enumerate(rows):
            results[row] = Judged(
                count_pixels(predicted[position], forged[position]),
                float(loss[position]),
                np.where(predicted[position], np.uint8(255), np.uint8(0)),
            )

    # a stack: the halves of a batch that does not fit come before the next batch
    waiting = equal_sizes(images, lambda size: batch_size_for(localizer, size, device, batch_size))[::-1]
    while waiting:
        rows = waiting.pop()
        if fits(partial(judge_rows, rows)):
            on_judged(len(rows))
            continue
        if len(rows) == 1:
            height, width = images[rows[0]].shape[:2]
            raise OutOfMemory(
                f"out of memory: the localizer does not fit one image of {height}x{width}; leave it out"
            )
        half = len(rows) // 2
        waiting += [rows[half:], rows[:half]]
    return [results[row] for row in range(len(images))]


def judge_samples(
    localizer: Localizer, samples: Sequence[Sample], *, batch_size: int | None, device: str
) -> list[Judged]:
    """Judge samples by their own masks, as ``judge`` does."""
    images, masks = [sample.image for sample in samples], [sample.mask for sample in samples]
    return judge(localizer, images, masks, batch_size=batch_size, device=device)


def localize(
    localizer: Localizer,
    images: Sequence[ByteImage],
    *,
    defence: Defence,
    batch_size: int | None,
    device: str,
    own_scores: bool = False,
) -> Iterator[Localized]:
    """Localize 8-bit images behind a defence.

    ``own_scores``: also ask a localizer with a method ``image_score``, from images ``(N, 3, H, W)`` to ``(N,)``, for that.

    Raises:
        UsageError: if its map or its scores have another shape, or a score is no probability.
    """
    score_images = getattr(localizer, "image_score", None) if own_scores else None
    for rows in equal_sizes(images, lambda size: batch_size_for(localizer, size, device, batch_size)):
        # torch rounds a GPU's convolutions to TF32 unless told otherwise, and an attack's precision is recorded
        with (
            torch.no_grad(),
            compute_precision("fp32", device, deterministic=False),
            safe_convolutions(localizer, defence),
        ):
            batch = to_tensor([images[row] for row in rows], device)
            purified = defence(batch)
            maps = require_map(localizer.probability(purified), purified, "the probability")
            maps = resize(maps, batch.shape[-2:])  # a defence may bring images to the localizer's size
            levels = maps[:, 0].float().cpu().numpy()
            scores = _own_scores(score_images, purified) if score_images else [math.nan] * len(rows)
        yield from map(Localized, rows, levels, scores)


def _own_scores(score_images: Callable[[Tensor], Tensor], images: Tensor) -> list[float]:
    scores = score_images(images)
    shape = tuple(getattr(scores, "shape", ()))
    if shape != (len(images),) or not bool(((scores >= 0) & (scores <= 1)).all()):
        raise UsageError(
            f"image_score of the localizer must give one number from 0 to 1 for each of {len(images)} images; found shape "
            f"{shape or type(scores).__name__}" + " with other numbers" * (shape == (len(images),))
        )
    return [float(score) for score in scores]


def _look(localizer: Localizer, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Compute probability and logits; in one pass through the network where the localizer offers it."""
    single_pass = getattr(localizer, "probability_and_logits", None)
    probability, logits = (
        single_pass(batch) if single_pass else (localizer.probability(batch), localizer.logits(batch))
    )
    return require_map(probability, batch, "the probability"), require_map(logits, batch, "the logits")


def require_map(scores: Tensor, image: Tensor, label: str) -> Tensor:
    """Refuse a map that would be broadcast over channels or the batch: the attack would see another loss than the score.

    Raises:
        UsageError: unless there is one value for each pixel of each image.
    """
    expected_shape, actual_shape = (len(image), 1, *image.shape[-2:]), tuple(getattr(scores, "shape", ()))
    if actual_shape != expected_shape:
        raise UsageError(
            f"{label} of the localizer must have shape {expected_shape}; found {actual_shape or type(scores).__name__}; "
            "try `afbench weights check` on it"
        )
    return scores


def batch_size_for(localizer: Localizer, size: tuple[int, int], device: str, batch_size: int | None) -> int:
    """Return how many images of ``size`` (height, width) one batch of a localizer takes.

    As many as the user says, or as suit the device: a rule of sizes alone, so that the same run makes the same batches.
    """
    if batch_size is not None:
        return batch_size
    # every image becomes a square of this side, however large it is
    side = getattr(localizer, "side", None) or getattr(localizer, "canvas", None)
    pixels = side * side if side else size[0] * size[1]
    if device.startswith("cuda"):
        return max(1, int(GPU_KIB_AT_ONCE / getattr(localizer, "kib_per_pixel", KIB_PER_PIXEL)) // pixels)
    return max(1, PIXELS_AT_ONCE // pixels)


def equal_sizes(images: Levels, limit: Callable[[tuple[int, int]], int]) -> list[list[int]]:
    """Group row numbers into batches of one image size, at most ``limit(size)`` each, in a fixed order."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(images):
        sizes.setdefault((image.shape[0], image.shape[1]), []).append(row)
    return [
        rows[first : first + limit(size)]
        for size, rows in sizes.items()
        for first in range(0, len(rows), limit(size))
    ]
