"""Forged images of one size to measure on, as a batch and with their scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from afbench import load_localizer
from afbench.core import Localizer, Sample, Setting
from afbench.engine import judge
from afbench.engine.grid import AttackBatch, attack_batch
from afbench.engine.meter import Meter
from afbench.images import masks_to_tensor, quantise, to_tensor
from afbench.localizers.load import REFERENCE
from afbench.localizers.untrained import RANDOM
from afbench.metrics import f1
from afbench.plans import max_levels
from afbench.sources import open_source


def pictures(number: int, side: int) -> list[Sample]:
    """Read demo forgeries, repeated to a size or cut to it around the topmost forged pixel."""
    source = open_source("demo", None)
    samples = []
    for sample_id in source.ids[:number]:
        sample = source.read(sample_id)
        times = -(-side // sample.image.shape[0]), -(-side // sample.image.shape[1])
        image, mask = np.tile(sample.image, (*times, 1)), np.tile(sample.mask, times)
        row, column = np.clip(np.argwhere(mask)[0] - side // 2, 0, np.subtract(mask.shape, side))
        window = slice(row, row + side), slice(column, column + side)
        cut = {
            name: np.ascontiguousarray(array[window]) for name, array in (("image", image), ("mask", mask))
        }
        samples.append(replace(sample, **cut))
    return samples


def as_batch(samples: list[Sample], device: str) -> AttackBatch:
    """Stack samples into the batch that an attack takes."""
    return AttackBatch(
        [sample.sample_id for sample in samples],
        to_tensor([sample.image for sample in samples], device),
        masks_to_tensor([sample.mask for sample in samples], device),
    )


def a_localizer(name: str, device: str) -> Localizer:
    """Load a localizer by name; published ones get random weights, which cost the same."""
    return load_localizer(name, None if name == REFERENCE else RANDOM, device=device)


def attack(
    localizer: Localizer, batch: AttackBatch, settings: list[Setting], batch_size: int, seed: int = 0
) -> tuple[Tensor, int]:
    """Run settings of one sharing group; return the images of the last one, and the gradients taken."""
    meter = Meter()
    images = batch.image
    for attacked in attack_batch(localizer, batch, settings, seed=seed, batch_size=batch_size, meter=meter):
        images = attacked.image
    return images, meter.gradients


def f1_after(
    localizer: Localizer, samples: list[Sample], batch: AttackBatch, images: Tensor, setting: Setting
) -> float:
    """Compute the mean F1 on what would be published: 8-bit images inside the ball."""
    levels = quantise(images.to(batch.image), batch.image, max_levels(setting.phi)).cpu().numpy()
    results = judge(
        localizer,
        list(levels),
        [sample.mask for sample in samples],
        batch_size=None,
        device=str(batch.image.device),
    )
    return sum(f1(result.counts) for result in results) / len(results)
