"""Attack a block of samples under one sharing group, and encode the results as they will be stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, Setting
from afbench.images import ImageFormat, decode_stored, encode_image, masks_to_tensor, quantise, to_tensor
from afbench.metrics import Distance, distance
from afbench.plans import max_levels
from afbench.plans.ensemble import MEMBERS

from .grid import AttackBatch, attack_batch, images_at_once
from .io_pool import Submit, inline
from .measure import Judged, batch_size_for, equal_sizes, judge
from .memory import OnHalved, fits
from .meter import Meter, OnGradients, OnQueries
from .originals import Originals, upload_originals

OUT_OF_MEMORY = "out_of_memory"
FAILURES = ("nonfinite_gradient", OUT_OF_MEMORY)
"""Reasons for a failed sample that come from the attack, not from the source: a later run may succeed."""
BYTES_ON_DEVICE = 2**30
"""Bytes of attacked images that one group keeps on the device to be judged there; a larger group copies them there again."""


@dataclass(frozen=True, kw_only=True)
class AttackedRow:
    """One stored image: its bytes, its decoded pixels, and how the localizer does on it and on its original; ``member``
    says which attack of an ensemble made it."""

    sample: Sample
    encoded: bytes
    image: ByteImage
    original_result: Judged
    attacked_result: Judged
    distance: Distance
    zero_gradient_pixels: int | None
    member: str = ""


class _Encoded(NamedTuple):
    """An attacked image in 8 bits, and a future of its bytes and its distance, which a thread computes."""

    image: ByteImage
    stored: Future[tuple[bytes, Distance]]


@dataclass(frozen=True)
class Failure:
    """A sample an attack could not finish, with the reason from the manifest's vocabulary."""

    sample_id: str
    reason: str
    detail: str


def run_settings(
    localizer: Localizer,
    samples: Sequence[Sample],
    original_results: Sequence[Judged],
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int | None,
    device: str,
    image_format: ImageFormat,
    on_gradients: OnGradients | None = None,
    on_queries: OnQueries | None = None,
    on_judged: OnQueries = lambda images: None,
    on_halved: OnHalved = lambda size, images: None,
    batch_sizes: Mapping[tuple[int, int], int] = MappingProxyType({}),
    submit: Submit = inline,
) -> dict[Setting, list[AttackedRow | Failure]]:
    """Attack all samples with all settings of one group and score the 8-bit images, as they are stored.

    Images of one size run at one number of images per batch: where a batch does not fit into memory, all of that
    size start again with half as many. A sample that does not fit by itself fails with ``out_of_memory``.

    Args:
        localizer: the localizer to attack.
        samples: any sizes; equal sizes are batched.
        original_results: the localizer's results on the originals, in the same order.
        settings: of one sharing group (``plan.settings_by_group``).
        seed: of every random draw.
        batch_size: images per batch of the localizer, None to leave it to their size; other values may move single levels in float32.
        device: where to compute.
        image_format: how results are encoded.
        on_gradients: called with the number of image gradients just taken.
        on_queries: called with the number of images just passed without a gradient, by an attack that takes none.
        on_judged: called with the number of attacked images just judged.
        on_halved: called with a size (height, width) and the images per batch it starts again with.
        batch_sizes: images per batch for some sizes: as measured, or as a halved run ended with.
        submit: runs the encoding and comparing of images, beside the next batch if it has threads.
    Returns:
        For each setting one row or failure per sample, in the order of ``samples``.
    Raises:
        AfbenchError: if an encoded image does not decode to itself.
    """
    return start_settings(
        localizer,
        upload_originals(samples, device),
        original_results,
        settings,
        seed=seed,
        batch_size=batch_size,
        image_format=image_format,
        on_gradients=on_gradients,
        on_queries=on_queries,
        on_judged=on_judged,
        on_halved=on_halved,
        batch_sizes=batch_sizes,
        submit=submit,
    )()


def start_settings(
    localizer: Localizer,
    originals: Originals,
    original_results: Sequence[Judged],
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int | None,
    image_format: ImageFormat,
    on_gradients: OnGradients | None,
    on_queries: OnQueries | None,
    on_judged: OnQueries,
    on_halved: OnHalved,
    batch_sizes: Mapping[tuple[int, int], int],
    submit: Submit,
) -> Callable[[], dict[Setting, list[AttackedRow | Failure]]]:
    """Run all of ``run_settings`` that needs the localizer, and leave the encoding to the threads of ``submit``.

    The attacked images are judged as they lie on the device. The threads prove that the stored bytes decode to exactly those:
    no row comes of bytes that decode to anything else.

    Returns:
        A function that waits for the threads and returns the rows. The next group can run meanwhile.
    """
    meter = Meter(on_gradients, on_queries)
    samples, device = originals.samples, originals.device
    on_device: dict[Setting, dict[int, Tensor]] = {setting: {} for setting in settings}
    stay_on_device = len(settings) * sum(sample.image.size for sample in samples) <= BYTES_ON_DEVICE
    outcomes: dict[Setting, list[_Encoded | Failure]] = {
        setting: [Failure(sample.sample_id, "unfinished", "") for sample in samples] for setting in settings
    }
    zero_pixels: dict[Setting, list[int | None]] = {setting: [None] * len(samples) for setting in settings}
    members: dict[Setting, list[str]] = {setting: [""] * len(samples) for setting in settings}

    def attack(rows: Sequence[int], images_per_batch: int) -> None:
        batch_samples = [samples[row] for row in rows]
        batch = AttackBatch(
            [sample.sample_id for sample in batch_samples],
            to_tensor([originals.images[row] for row in rows]),
            masks_to_tensor([originals.masks[row] for row in rows]),
        )
        for attacked in attack_batch(
            localizer, batch, settings, seed=seed, batch_size=images_per_batch, meter=meter
        ):
            # values near [0, 1] have a finite sum exactly if all are finite; testing each one took ten times as long
            finite = attacked.image.flatten(1).sum(dim=1).isfinite().tolist()
            # NaN has no 8-bit value; its image becomes a failure below, whatever is put in its place
            levels = quantise(torch.nan_to_num(attacked.image), batch.image, max_levels(attacked.setting.phi))
            zero_counts = (
                [None] * len(rows) if attacked.zero_pixels is None else attacked.zero_pixels.tolist()
            )
            if attacked.member is not None:
                for row, number in zip(rows, attacked.member.tolist(), strict=True):
                    members[attacked.setting][row] = MEMBERS[number]
            if stay_on_device:
                on_device[attacked.setting].update(zip(rows, levels, strict=True))
            for row, sample, is_finite, pixels, zero_count in zip(
                rows, batch_samples, finite, levels.cpu().numpy(), zero_counts, strict=True
            ):
                zero_pixels[attacked.setting][row] = zero_count
                outcomes[attacked.setting][row] = (
                    _Encoded(pixels, submit(_store, pixels, sample.image, image_format))
                    if is_finite
                    else Failure(
                        sample.sample_id, "nonfinite_gradient", "the attack met NaN or infinite values"
                    )
                )

    images = [sample.image for sample in samples]
    for equal_rows in equal_sizes(images, lambda size: len(samples)):
        size = (images[equal_rows[0]].shape[0], images[equal_rows[0]].shape[1])
        images_per_batch = batch_sizes.get(size) or batch_size_for(localizer, size, device, batch_size)
        # all of this size again, not the rest alone: in float32 the batch size decides single levels
        while not _attack_all(
            attack, equal_rows, images_per_batch, images_at_once(settings, images_per_batch)
        ):
            if images_per_batch == 1:
                _quarantine(outcomes, zero_pixels, attack, equal_rows, samples)
                break
            images_per_batch //= 2
            on_halved(size, images_per_batch)
    attacked_results = {
        setting: _judge_encoded(
            localizer, originals, outcomes[setting], on_device[setting], batch_size, on_judged
        )
        for setting in settings
    }
    return lambda: {
        setting: _rows(
            samples,
            original_results,
            outcomes[setting],
            attacked_results[setting],
            zero_pixels[setting],
            members[setting],
        )
        for setting in settings
    }


def _store(image: ByteImage, original: ByteImage, image_format: ImageFormat) -> tuple[bytes, Distance]:
    """Encode an image and check that it decodes to the same pixels: those are judged and compared.

    Raises:
        AfbenchError: if it does not.
    """
    data = encode_image(image, image_format)
    if not np.array_equal(decode_stored(data), image):
        raise AfbenchError(
            f"an image does not come back from {image_format} as it was; try --image-format png"
        )
    return data, distance(image, original)


def _attack_all(
    attack: Callable[[Sequence[int], int], None], rows: Sequence[int], images_per_batch: int, at_once: int
) -> bool:
    """Attack rows of one size, ``at_once`` together; return False at the first batch that does not fit into memory."""
    parts = (rows[first : first + at_once] for first in range(0, len(rows), at_once))
    return all(fits(partial(attack, part, images_per_batch)) for part in parts)


def _quarantine(
    outcomes: Mapping[Setting, list[_Encoded | Failure]],
    zero_pixels: Mapping[Setting, list[int | None]],
    attack: Callable[[Sequence[int], int], None],
    rows: Sequence[int],
    samples: Sequence[Sample],
) -> None:
    """Attack rows one by one, and record those that do not fit by themselves as failures of every setting."""
    for row in rows:
        if not fits(partial(attack, [row], 1)):
            height, width = samples[row].image.shape[:2]
            for setting, results in outcomes.items():
                results[row] = Failure(
                    samples[row].sample_id, OUT_OF_MEMORY, f"{height}x{width} does not fit by itself"
                )
                zero_pixels[setting][row] = None


def _judge_encoded(
    localizer: Localizer,
    originals: Originals,
    outcomes: Sequence[_Encoded | Failure],
    on_device: Mapping[int, Tensor],
    batch_size: int | None,
    on_judged: OnQueries,
) -> list[Judged]:
    """Judge the attacked images, in their order, as they lie on the device if they do; failures are left out."""
    images = {row: outcome.image for row, outcome in enumerate(outcomes) if isinstance(outcome, _Encoded)}
    return judge(
        localizer,
        [on_device[row] for row in images] if on_device else list(images.values()),
        [originals.masks[row] for row in images],
        batch_size=batch_size,
        device=originals.device,
        on_judged=on_judged,
    )


def _rows(
    samples: Sequence[Sample],
    original_results: Sequence[Judged],
    outcomes: Sequence[_Encoded | Failure],
    attacked_results: Sequence[Judged],
    zero_pixels: Sequence[int | None],
    members: Sequence[str],
) -> list[AttackedRow | Failure]:
    scores = iter(attacked_results)
    rows: list[AttackedRow | Failure] = []
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, Failure):
            rows.append(outcome)
            continue
        data, distances = outcome.stored.result()
        rows.append(
            AttackedRow(
                sample=samples[number],
                encoded=data,
                image=outcome.image,
                original_result=original_results[number],
                attacked_result=next(scores),
                distance=distances,
                zero_gradient_pixels=zero_pixels[number],
                member=members[number],
            )
        )
    return rows
