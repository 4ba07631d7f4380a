"""Attack a block of samples under one sharing group; what comes out is what will be stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, Setting
from afbench.images import ImageFormat, decode_stored, encode_image, masks_to_tensor, quantise, to_tensor
from afbench.metrics import Distance, distance
from afbench.plan import max_levels

from .beside import Submit, inline
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


class _Kept(NamedTuple):
    """An attacked image in 8 bits, and, as soon as a thread has them, its bytes and its distance."""

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
    before: Sequence[Judged],
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
    launches: Mapping[tuple[int, int], int] = MappingProxyType({}),
    submit: Submit = inline,
) -> dict[Setting, list[AttackedRow | Failure]]:
    """Attack all samples with all settings of one group and score the 8-bit images, as they are stored.

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
        on_judged: told how many attacked images were just looked at.
        on_halved: told of a size (height, width) and the images per launch it starts again with.
        launches: images per launch for some sizes: as measured, or as a run that was halved ended with.
        submit: has images encoded and compared beside the next launch.
    Returns:
        For each setting one row or failure per sample, in the order of ``samples``.
    Raises:
        AfbenchError: if an encoded image does not decode to itself.
    """
    return start_settings(
        localizer,
        samples,
        before,
        settings,
        seed=seed,
        batch_size=batch_size,
        device=device,
        image_format=image_format,
        on_gradients=on_gradients,
        on_queries=on_queries,
        on_judged=on_judged,
        on_halved=on_halved,
        launches=launches,
        submit=submit,
    )()


def start_settings(
    localizer: Localizer,
    samples: Sequence[Sample],
    before: Sequence[Judged],
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int | None,
    device: str,
    image_format: ImageFormat,
    on_gradients: OnGradients | None,
    on_queries: OnQueries | None,
    on_judged: OnQueries,
    on_halved: OnHalved,
    launches: Mapping[tuple[int, int], int],
    submit: Submit,
) -> Callable[[], dict[Setting, list[AttackedRow | Failure]]]:
    """Do as ``run_settings`` but for the waiting: what is given back waits for the threads, and gives the rows.

    The localizer is not needed any more by then.
    """
    meter = Meter(on_gradients, on_queries)
    kept: dict[Setting, list[_Kept | Failure]] = {
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
            # of values around [0, 1] a sum is finite if all of them are; asking each took ten times as long
            finite = attacked.image.flatten(1).sum(dim=1).isfinite().tolist()
            levels = quantise(torch.nan_to_num(attacked.image), batch.image, max_levels(attacked.setting.phi))
            zeros = [None] * len(rows) if attacked.zero_pixels is None else attacked.zero_pixels.tolist()
            for row, sample, good, pixels, zero in zip(
                rows, chosen, finite, levels.cpu().numpy(), zeros, strict=True
            ):
                zero_pixels[attacked.setting][row] = zero
                kept[attacked.setting][row] = (
                    _Kept(pixels, submit(_store, pixels, sample.image, image_format))
                    if good
                    else Failure(
                        sample.sample_id, "nonfinite_gradient", "the attack met NaN or infinite values"
                    )
                )

    images = [sample.image for sample in samples]
    for same in equal_sizes(images, lambda size: len(samples)):
        size = (images[same[0]].shape[0], images[same[0]].shape[1])
        launch = launches.get(size) or launch_size(localizer, size, device, batch_size)
        while not _attack_all(attack, same, launch, images_per_launch(settings, launch)):
            if launch == 1:
                _quarantine(kept, zero_pixels, attack, same, samples)
                break
            launch //= 2
            on_halved(size, launch)
    after = {
        setting: _judge_kept(localizer, samples, kept[setting], batch_size, device, on_judged)
        for setting in settings
    }
    return lambda: {
        setting: _rows(samples, before, kept[setting], after[setting], zero_pixels[setting])
        for setting in settings
    }


def _store(image: ByteImage, original: ByteImage, image_format: ImageFormat) -> tuple[bytes, Distance]:
    """Encode an image; what is judged and compared is what these bytes decode to."""
    data = encode_image(image, image_format)
    if not np.array_equal(decode_stored(data), image):
        raise AfbenchError(
            f"an image does not come back from {image_format} as it was; try --image-format png"
        )
    return data, distance(image, original)


def _attack_all(
    attack: Callable[[Sequence[int], int], None], rows: Sequence[int], launch: int, at_once: int
) -> bool:
    """Attack rows of one size, some at once; False at the first launch that does not fit into memory."""
    parts = (rows[first : first + at_once] for first in range(0, len(rows), at_once))
    return all(fits(partial(attack, part, launch)) for part in parts)


def _quarantine(
    kept: Mapping[Setting, list[_Kept | Failure]],
    zero_pixels: Mapping[Setting, list[int | None]],
    attack: Callable[[Sequence[int], int], None],
    rows: Sequence[int],
    samples: Sequence[Sample],
) -> None:
    """Attack rows one by one, and note those that do not fit even so, for every setting: it has one reason."""
    for row in rows:
        if not fits(partial(attack, [row], 1)):
            height, width = samples[row].image.shape[:2]
            for setting, results in kept.items():
                results[row] = Failure(
                    samples[row].sample_id, OUT_OF_MEMORY, f"{height}x{width} does not fit by itself"
                )
                zero_pixels[setting][row] = None


def _judge_kept(
    localizer: Localizer,
    samples: Sequence[Sample],
    kept: Sequence[_Kept | Failure],
    batch_size: int | None,
    device: str,
    on_judged: OnQueries,
) -> list[Judged]:
    """What the localizer says of the images that are there, in their order."""
    done = [
        (one.image, sample.mask) for one, sample in zip(kept, samples, strict=True) if isinstance(one, _Kept)
    ]
    images, masks = [image for image, _ in done], [mask for _, mask in done]
    return judge(localizer, images, masks, batch_size=batch_size, device=device, on_judged=on_judged)


def _rows(
    samples: Sequence[Sample],
    before: Sequence[Judged],
    kept: Sequence[_Kept | Failure],
    after: Sequence[Judged],
    zero_pixels: Sequence[int | None],
) -> list[AttackedRow | Failure]:
    scores = iter(after)
    rows: list[AttackedRow | Failure] = []
    for row, one in enumerate(kept):
        if isinstance(one, Failure):
            rows.append(one)
            continue
        data, apart = one.stored.result()
        rows.append(
            AttackedRow(samples[row], data, one.image, before[row], next(scores), apart, zero_pixels[row])
        )
    return rows
