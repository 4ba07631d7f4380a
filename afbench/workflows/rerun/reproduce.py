"""``afbench reproduce``: regenerate one stored row and compare its pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, Setting, UsageError
from afbench.defences.defended_localizer import undefended
from afbench.engine import judge_samples, run_settings
from afbench.engine.block import AttackedRow
from afbench.engine.grid import images_at_once
from afbench.engine.measure import batch_size_for
from afbench.images import pixel_sha256
from afbench.storage.contents import find_row
from afbench.storage.manifests import ORIGINALS, open_benchmark
from afbench.storage.stored_pixels import stored_picture

from .recorded_run import (
    LocalizerSource,
    RecordedRun,
    batch_configs,
    computing_like,
    explain_difference,
    localizer_loader,
    read_recorded_run,
    runnable_setting,
    stored_samples,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Reproduced:
    """How a regenerated row compares: ``levels`` is the largest difference; ``values`` of all ``of`` values differ.

    ``batch`` lists the samples that were attacked in one batch with it; ``differs`` says why it is not identical.
    """

    identical: bool
    levels: int
    values: int
    of: int
    image_sha256: str
    batch: Sequence[str]
    differs: str

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of one row."""
        import pandas as pd

        return pd.DataFrame([asdict(self)])


def reproduce(
    folder: Path,
    row: str,
    *,
    alone: bool = False,
    localizer_source: LocalizerSource = LocalizerSource(),  # noqa: B008 - frozen
    advance: Callable[[int], None] = lambda gradients: None,
) -> Reproduced:
    """Regenerate the image of ``CONFIG/SPLIT/SAMPLE_ID`` in the batch that made it, and compare its pixels.

    Only that batch runs: the images of its size that were attacked with it, under the settings of its sharing group.

    Args:
        folder: a benchmark.
        row: ``CONFIG/SPLIT/SAMPLE_ID``.
        alone: run the image by itself, at its one setting. In float32 this may move single levels; the result says how many.
        localizer_source: where the localizer comes from if the folder can't tell.
        advance: called with the number of gradients just taken.
    Raises:
        UsageError: if there is no such row, or its localizer is not available.
        AfbenchError: if its original or the row is damaged, or the attack fails.
    """
    benchmark = open_benchmark(folder)
    location = find_row(benchmark, row)
    config, split, number = location.config, location.split, location.number
    if config in ORIGINALS:
        raise UsageError(f"'{row}' is an original, which nothing computed; name a row of an attacked config")
    manifest = benchmark.attacked[config]
    provenance = manifest.provenance
    setting = runnable_setting(config, provenance, localizer_source)
    recorded_run = read_recorded_run(folder, config, split, number)
    recorded_run = replace(recorded_run, device=localizer_source.device or recorded_run.device)
    localizer = localizer_loader(localizer_source)(config, provenance, recorded_run.device)
    samples = stored_samples(benchmark, split, number)
    position = next(
        (index for index, sample in enumerate(samples) if sample.sample_id == location.row["sample_id"]), None
    )
    if position is None or pixel_sha256(samples[position].image) != location.row["original_sha256"]:
        raise AfbenchError(
            f"the original of '{row}' is not in config clean; `afbench verify` says what is damaged"
        )
    if alone:
        settings, batch = [setting], [samples[position]]
    else:
        names = batch_configs(benchmark, config, split, number)
        settings = [
            runnable_setting(name, benchmark.attacked[name].provenance, localizer_source) for name in names
        ]
        batch = _batch_samples(localizer, samples, position, settings, recorded_run)
    with computing_like(provenance, recorded_run):
        original_results = judge_samples(
            undefended(localizer), batch, batch_size=recorded_run.batch_size, device=recorded_run.device
        )
        results = run_settings(
            localizer,
            batch,
            original_results,
            settings,
            seed=provenance["seed"],
            batch_size=recorded_run.batch_size,
            device=recorded_run.device,
            # any lossless format will do: pixels are compared, not files
            image_format="png",
            batch_sizes=recorded_run.batch_sizes,
            on_gradients=advance,
        )[setting]
    result = next(
        result for result, sample in zip(results, batch, strict=True) if sample is samples[position]
    )
    if not isinstance(result, AttackedRow):
        raise AfbenchError(f"'{row}' cannot be made again: {result.reason} ({result.detail})")
    part = manifest.splits[split]
    explanation = explain_difference(part, part.shards[number], recorded_run)
    return _compare(result, location.row, stored_picture(folder, location.row), batch, explanation)


def _batch_samples(
    localizer: Localizer,
    samples: Sequence[Sample],
    position: int,
    settings: Sequence[Setting],
    recorded_run: RecordedRun,
) -> list[Sample]:
    """Return the samples of the batch that the sample at ``position`` was in."""
    height, width = samples[position].image.shape[:2]
    same_size = [sample for sample in samples if sample.image.shape[:2] == (height, width)]
    batch_size = batch_size_for(localizer, (height, width), recorded_run.device, recorded_run.batch_size)
    images = images_at_once(settings, recorded_run.batch_sizes.get((height, width), batch_size))
    first = same_size.index(samples[position]) // images * images
    return same_size[first : first + images]


def _compare(
    regenerated: AttackedRow,
    stored_row: dict[str, Any],
    stored: ByteImage,
    batch: Sequence[Sample],
    explanation: str,
) -> Reproduced:
    if stored.shape != regenerated.image.shape:
        raise AfbenchError(
            f"{stored_row['sample_id']}: the stored image is {stored.shape}, made {regenerated.image.shape}"
        )
    # with a sign, for a difference of unsigned levels would wrap
    distance = np.abs(stored.astype(np.int16) - regenerated.image.astype(np.int16))
    identical = not distance.any() and pixel_sha256(regenerated.image) == stored_row["image_sha256"]
    return Reproduced(
        identical=identical,
        levels=int(distance.max()),
        values=int(np.count_nonzero(distance)),
        of=int(distance.size),
        image_sha256=pixel_sha256(regenerated.image),
        batch=[sample.sample_id for sample in batch],
        differs="" if identical else explanation,
    )
