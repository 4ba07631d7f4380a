"""Attack a block of samples under one sharing group; what comes out is what will be stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import torch

from afbench.core import ByteImage, Localizer, Sample, Setting
from afbench.images import ImageFormat, decode_stored, encode_image, masks_to_tensor, quantise, to_tensor
from afbench.metrics import Distance, distance
from afbench.plan import max_levels

from .grid import Batch, attack_batch, images_per_launch
from .measure import Judged, equal_sizes, judge, launch_size
from .memory import OnHalved, fits
from .meter import Meter, OnGradients, OnQueries

OUT_OF_MEMORY = "out_of_memory"
FAILURES = ("nonfinite_gradient", OUT_OF_MEMORY)
"""Reasons an attack gives, as opposed to those a source gives: what a later run may do better."""


@dataclass(frozen=True)
class AttackedRow:
    """One stored image: its bytes, its decoded pixels, and what they do."""

    sample: Sample
    encoded: bytes
    image: ByteImage
    before: Judged
    after: Judged
    distance: Distance
    zero_gradient_pixels: int | None


@dataclass(frozen=True)
class Failure:
    """A sample an attack could not finish, with the reason from the manifest's vocabulary."""

    sample_id: str
    reason: str
    detail: str


def run_settings(
    localizer: Localizer,
    samples: Sequence[Sample],
    before: Sequence[Judged],
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int | None,
    device: str,
    image_format: ImageFormat,
    on_gradients: OnGradients | None = None,
    on_queries: OnQueries | None = None,
    on_halved: OnHalved = lambda size, images: None,
    at_most: Mapping[tuple[int, int], int] = MappingProxyType({}),
) -> dict[Setting, list[AttackedRow | Failure]]:
    """Attack all samples with all settings of one group and score the re-loaded 8-bit images.

    Images of one size run at one number of images per launch: where a launch does not fit into memory, all of that
    size start again with half as many. A sample that does not fit by itself fails with ``out_of_memory``.

    Args:
        localizer: what is attacked.
        samples: any sizes; equal sizes are batched.
        before: what the localizer says of the originals, in the same order.
        settings: of one sharing group (``plan.settings_by_group``).
        seed: of every random draw.
        batch_size: images per launch of the localizer, None to leave it to their size; other values may move single levels in float32.
        device: where to compute.
        image_format: how results are encoded.
        on_gradients: told how many image gradients were just taken.
        on_queries: told how many images were just looked at without a gradient, by an attack that takes none.
        on_halved: told of a size (height, width) and the images per launch it starts again with.
        at_most: images per launch for some sizes, as a run that was halved ended with.
    Returns:
        For each setting one row or failure per sample, in the order of ``samples``.
    """
    meter = Meter(on_gradients, on_queries)
    stored: dict[Setting, list[bytes | Failure]] = {
        setting: [Failure(sample.sample_id, "unfinished", "") for sample in samples] for setting in settings
    }
    zero_pixels: dict[Setting, list[int | None]] = {setting: [None] * len(samples) for setting in settings}

    def attack(rows: Sequence[int], launch: int) -> None:
        chosen = [samples[row] for row in rows]
        batch = Batch(
            [sample.sample_id for sample in chosen],
            to_tensor([sample.image for sample in chosen], device),
            masks_to_tensor([sample.mask for sample in chosen], device),
        )
        for attacked in attack_batch(localizer, batch, settings, seed=seed, batch_size=launch, meter=meter):
            finite = torch.isfinite(attacked.image).all(dim=3).all(dim=2).all(dim=1).tolist()
            levels = quantise(torch.nan_to_num(attacked.image), batch.image, max_levels(attacked.setting.phi))
            zeros = [None] * len(rows) if attacked.zero_pixels is None else attacked.zero_pixels.tolist()
            for row, sample, good, pixels, zero in zip(
                rows, chosen, finite, levels.cpu().numpy(), zeros, strict=True
            ):
                zero_pixels[attacked.setting][row] = zero
                stored[attacked.setting][row] = (
                    encode_image(pixels, image_format)
                    if good
                    else Failure(
                        sample.sample_id, "nonfinite_gradient", "the attack met NaN or infinite values"
                    )
                )

    images = [sample.image for sample in samples]
    for same in equal_sizes(images, lambda size: len(samples)):
        size = (images[same[0]].shape[0], images[same[0]].shape[1])
        launch = launch_size(localizer, size, device, batch_size)
        launch = min(launch, at_most.get(size, launch))
        while not _attack_all(attack, same, launch, images_per_launch(settings, launch)):
            if launch == 1:
                _quarantine(stored, zero_pixels, attack, same, samples)
                break
            launch //= 2
            on_halved(size, launch)
    return {
        setting: _score(localizer, samples, before, stored[setting], zero_pixels[setting], batch_size, device)
        for setting in settings
    }


def _attack_all(
    attack: Callable[[Sequence[int], int], None], rows: Sequence[int], launch: int, at_once: int
) -> bool:
    """Attack rows of one size, some at once; False at the first launch that does not fit into memory."""
    parts = (rows[first : first + at_once] for first in range(0, len(rows), at_once))
    return all(fits(partial(attack, part, launch)) for part in parts)


def _quarantine(
    stored: Mapping[Setting, list[bytes | Failure]],
    zero_pixels: Mapping[Setting, list[int | None]],
    attack: Callable[[Sequence[int], int], None],
    rows: Sequence[int],
    samples: Sequence[Sample],
) -> None:
    """Attack rows one by one, and note those that do not fit even so, for every setting: it has one reason."""
    for row in rows:
        if not fits(partial(attack, [row], 1)):
            height, width = samples[row].image.shape[:2]
            for setting, results in stored.items():
                results[row] = Failure(
                    samples[row].sample_id, OUT_OF_MEMORY, f"{height}x{width} does not fit by itself"
                )
                zero_pixels[setting][row] = None


def _score(
    localizer: Localizer,
    samples: Sequence[Sample],
    before: Sequence[Judged],
    stored: Sequence[bytes | Failure],
    zero_pixels: Sequence[int | None],
    batch_size: int | None,
    device: str,
) -> list[AttackedRow | Failure]:
    """Decode what was encoded, and judge that: the score belongs to the bytes that are published."""
    done = [row for row, data in enumerate(stored) if isinstance(data, bytes)]
    images = {row: decode_stored(data) for row, data in enumerate(stored) if isinstance(data, bytes)}
    after = judge(
        localizer,
        [images[row] for row in done],
        [samples[row].mask for row in done],
        batch_size=batch_size,
        device=device,
    )
    scored = dict(zip(done, after, strict=True))
    rows: list[AttackedRow | Failure] = []
    for row, data in enumerate(stored):
        if isinstance(data, Failure):
            rows.append(data)
            continue
        apart = distance(images[row], samples[row].image)
        rows.append(
            AttackedRow(samples[row], data, images[row], before[row], scored[row], apart, zero_pixels[row])
        )
    return rows
