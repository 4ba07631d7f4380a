"""``afbench reproduce``: make one stored row again and compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from afbench.core import AfbenchError, Localizer, Sample, Setting, UsageError
from afbench.defences.defended_localizer import undefended
from afbench.engine import judge, run_settings
from afbench.engine.block import AttackedRow
from afbench.engine.grid import images_at_once
from afbench.engine.measure import batch_size_for
from afbench.images import decode_stored, pixel_sha256
from afbench.storage.contents import find_row
from afbench.storage.manifests import ORIGINALS, open_benchmark

from .replay import (
    Launch,
    Recipe,
    computing_like,
    localizers_of,
    read_launch,
    setting_of,
    stored_samples,
    together,
    what_differs,
)


@dataclass(frozen=True)
class Reproduced:
    """How a row that was made again compares: ``levels`` is the largest difference, ``values`` how many differ, of ``of``.

    ``batch`` are the samples it was attacked together with; ``differs`` says why, where it is not identical.
    """

    identical: bool
    levels: int
    values: int
    of: int
    image_sha256: str
    batch: Sequence[str]
    differs: str


def reproduce(
    folder: Path,
    row: str,
    *,
    alone: bool = False,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    advance: Callable[[int], None] = lambda gradients: None,
) -> Reproduced:
    """Make the image of ``CONFIG/SPLIT/SAMPLE_ID`` again, in the launch that made it, and compare its pixels.

    Only that launch is run: the images of its size that were attacked with it, under the settings of its group.

    Args:
        folder: a benchmark.
        row: which.
        alone: run it by itself, at its one setting; in float32 that may move single levels, which shows how many.
        recipe: where the localizer comes from if the folder cannot know.
        advance: told how many gradients were just taken.
    Raises:
        UsageError: if there is no such row, or its localizer is not at hand.
        AfbenchError: if its original or the row is damaged, or the attack fails.
    """
    benchmark = open_benchmark(folder)
    found = find_row(benchmark, row)
    config, split, number = found.config, found.split, found.number
    if config in ORIGINALS:
        raise UsageError(f"'{row}' is an original, which nothing computed; name a row of an attacked config")
    manifest = benchmark.attacked[config]
    provenance, setting = manifest.provenance, setting_of(config, manifest.provenance)
    launch = read_launch(folder, config, split, number)
    launch = replace(launch, device=recipe.device or launch.device)
    localizer = localizers_of(recipe)(config, provenance, launch.device)
    samples = stored_samples(benchmark, split, number)
    position = next((at for at, one in enumerate(samples) if one.sample_id == found.row["sample_id"]), None)
    if position is None or pixel_sha256(samples[position].image) != found.row["original_sha256"]:
        raise AfbenchError(
            f"the original of '{row}' is not in config clean; `afbench verify` says what is damaged"
        )
    if alone:
        settings, batch = [setting], [samples[position]]
    else:
        names = together(benchmark, config, split, number)
        settings = [setting_of(name, benchmark.attacked[name].provenance) for name in names]
        batch = _company(localizer, samples, position, settings, launch)
    with computing_like(provenance, launch):
        before = judge(
            undefended(localizer),
            [one.image for one in batch],
            [one.mask for one in batch],
            batch_size=launch.batch_size,
            device=launch.device,
        )
        done = run_settings(
            localizer,
            batch,
            before,
            settings,
            seed=provenance["seed"],
            batch_size=launch.batch_size,
            device=launch.device,
            image_format="png",
            batch_sizes=launch.launches,
            on_gradients=advance,
        )[setting]
    made = next(one for one, sample in zip(done, batch, strict=True) if sample is samples[position])
    if not isinstance(made, AttackedRow):
        raise AfbenchError(f"'{row}' cannot be made again: {made.reason} ({made.detail})")
    part = manifest.splits[split]
    return _compare(made, found.row, batch, what_differs(part, part.shards[number], launch))


def _company(
    localizer: Localizer,
    samples: Sequence[Sample],
    position: int,
    settings: Sequence[Setting],
    launch: Launch,
) -> list[Sample]:
    """The samples of the launch that one of them was in."""
    height, width = samples[position].image.shape[:2]
    same = [one for one in samples if one.image.shape[:2] == (height, width)]
    most = batch_size_for(localizer, (height, width), launch.device, launch.batch_size)
    at_once = images_at_once(settings, launch.launches.get((height, width), most))
    first = same.index(samples[position]) // at_once * at_once
    return same[first : first + at_once]


def _compare(made: AttackedRow, row: dict[str, Any], batch: Sequence[Sample], differs: str) -> Reproduced:
    stored = decode_stored(row["image"])
    if stored.shape != made.image.shape:
        raise AfbenchError(f"{row['sample_id']}: the stored image is {stored.shape}, made {made.image.shape}")
    apart = np.abs(stored.astype(np.int16) - made.image.astype(np.int16))
    identical = not apart.any() and pixel_sha256(made.image) == row["image_sha256"]
    return Reproduced(
        identical,
        int(apart.max()),
        int(np.count_nonzero(apart)),
        int(apart.size),
        pixel_sha256(made.image),
        [one.sample_id for one in batch],
        "" if identical else differs,
    )
