"""Make the images of the noise control, without a localizer's results."""

from __future__ import annotations

from collections.abc import Sequence

from afbench.core import ByteImage, Localizer, Sample, Setting
from afbench.images import masks_to_tensor, quantise, to_tensor
from afbench.plans import max_levels

from .grid import AttackBatch, attack_batch
from .measure import batch_size_for, equal_sizes
from .meter import Meter


def noisy_images(
    localizer: Localizer,
    samples: Sequence[Sample],
    setting: Setting,
    *,
    seed: int,
    batch_size: int | None,
    device: str,
) -> list[ByteImage]:
    """Move samples as ``run_settings`` does under a setting of attack ``noise``, which never asks the localizer."""
    images = [sample.image for sample in samples]
    noisy: dict[int, ByteImage] = {}
    for rows in equal_sizes(images, lambda size: batch_size_for(localizer, size, device, batch_size)):
        batch = AttackBatch(
            [samples[row].sample_id for row in rows],
            to_tensor([images[row] for row in rows], device),
            masks_to_tensor([samples[row].mask for row in rows], device),
        )
        for attacked in attack_batch(
            localizer, batch, [setting], seed=seed, batch_size=len(rows), meter=Meter()
        ):
            levels = quantise(attacked.image, batch.image, max_levels(setting.phi))
            noisy.update(zip(rows, levels.cpu().numpy(), strict=True))
    return [noisy[row] for row in range(len(samples))]
