"""Localize a benchmark's images with the bare localizer and behind every defence, and count; each image is decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from afbench.core import AfbenchError, ByteImage, Sample
from afbench.defences import Purifier
from afbench.engine import localize, noisy_images
from afbench.engine.io_pool import Submit, default_threads, threads
from afbench.metrics import Counts, count_pixels, f1, top_mean
from afbench.plans import make_setting
from afbench.scoring.predictions import ImageScores, PredictionTally
from afbench.scoring.score import per_image_table
from afbench.scoring.truth import AttackSetting, Baseline, Cell, Truth
from afbench.storage.identity import identity_of
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, Benchmark, count_rows

from ..adaptive import adaptive_configs, defended_name, require_oblivious
from ..attack_records import ADAPTIVE, OBLIVIOUS, Side
from ..attacked_localizer import require_attacked
from .evaluation_setup import EvaluationSetup
from .predict import decoded_batches

NOISE_PHI = Fraction(3, 255)
"""The phi of the noise control if no attack of the benchmark has one."""


@dataclass(frozen=True)
class Evaluation:
    """All sides of one localizer, the bare one first, and ``all_ones``, the scores of masks that call every pixel forged.

    ``posted`` are the sides after each step of posting, whose ``defence`` is that step, as ``jpeg:90``.
    ``localizer`` is the name that configs use; ``network`` identifies the architecture and weights. ``threshold`` is the
    probability above which it calls a pixel forged.
    """

    data: Path
    localizer: str
    sides: Sequence[Side]
    all_ones: pd.DataFrame
    network: Mapping[str, Any] = field(default_factory=dict)
    posted: Sequence[Side] = ()
    threshold: float = 0.5


def evaluate(
    setup: EvaluationSetup,
    *,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Count the pixels of every predicted mask, on every side; the figures equal those of ``predict`` and ``score``.

    If the benchmark has no noise control for the localizer, one is made here, at the largest phi of its attacks.

    Args:
        setup: from ``open_evaluation``.
        start: called once with the number of images to localize.
        advance: called with the number of images just localized.
    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    benchmark, truth = setup.benchmark, setup.truth
    purifiers = _purifiers(setup)
    oblivious = require_oblivious(benchmark, setup.name)
    adaptive = {purifier.label: adaptive_configs(benchmark, setup.name, purifier) for purifier in purifiers}
    # a config of the same name may have attacked other weights
    for config in (config for configs in adaptive.values() for config in configs):
        attacked = benchmark.configs[config].provenance["localizer"]
        require_attacked(setup.localizer, attacked, benchmark.folder)
    originals = [name for name in ORIGINALS if name in benchmark.configs]
    lacks_noise = not any(benchmark.configs[name].provenance["attack"] == "noise" for name in oblivious)
    all_configs = [*originals, *oblivious, *(name for names in adaptive.values() for name in names)]
    start(
        sum(
            count_rows(benchmark.configs[name]) * (2 if lacks_noise and name == CLEAN else 1)
            for name in all_configs
        )
    )
    tallies = {
        (purifier.label, side): PredictionTally() for purifier in purifiers for side in (OBLIVIOUS, ADAPTIVE)
    }
    with threads(default_threads()) as submit:
        for config in (*originals, *oblivious):
            for source, ids, images in read_images(benchmark, config, submit):
                cell = Cell(setup.name, source, config)
                for purifier in purifiers:
                    count_masks(setup, purifier, cell, ids, images, tallies[purifier.label, OBLIVIOUS])
                advance(len(ids))
                if lacks_noise and config == CLEAN:
                    truth = _count_noise(setup, truth, cell, ids, images, tallies)
                    advance(len(ids))
        # an attack through a defence says nothing of other defences, so each sees its own configs alone
        for purifier in purifiers:
            for config in adaptive[purifier.label]:
                for source, ids, images in read_images(benchmark, config, submit):
                    cell = Cell(defended_name(setup.name, purifier), source, config)
                    count_masks(setup, purifier, cell, ids, images, tallies[purifier.label, ADAPTIVE])
                    advance(len(ids))

    def sides_of(named: Iterable[tuple[str, Purifier]]) -> list[Side]:
        return [
            Side(
                name,
                side,
                per_image_table(tallies[purifier.label, side], truth),
                purifier.trained_on,
                kind=purifier.name,
                params=purifier.params,
            )
            for name, purifier in named
            for side in (OBLIVIOUS, ADAPTIVE)
            # a defence without adaptive configs has no adaptive side
            if tallies[purifier.label, side].counts
        ]

    sides = sides_of((purifier.label, purifier) for purifier in setup.purifiers)
    posted = sides_of(setup.steps.items())
    network = identity_of(benchmark.configs[oblivious[0]].provenance)
    return Evaluation(
        benchmark.folder,
        setup.name,
        sides,
        _all_ones(setup),
        network,
        posted,
        setup.localizer.threshold,
    )


def _purifiers(setup: EvaluationSetup) -> list[Purifier]:
    """List what stands before the localizer, each in turn: nothing, every defence, every step of posting."""
    return [*setup.purifiers, *setup.steps.values()]


def read_images(
    benchmark: Benchmark, config: str, submit: Submit
) -> Iterator[tuple[str, list[str], list[ByteImage]]]:
    for source in benchmark.configs[config].splits:
        for rows in decoded_batches(benchmark, config, source, submit):
            yield source, rows.ids, rows.images


def count_masks(
    setup: EvaluationSetup,
    purifier: Purifier,
    cell: Cell,
    ids: Sequence[str],
    images: Sequence[ByteImage],
    tally: PredictionTally,
) -> None:
    counts, image_scores = tally.counts.setdefault(cell, {}), tally.image_scores.setdefault(cell, {})
    network = setup.localizer
    maps = localize(
        network,
        images,
        defence=purifier.apply,
        batch_size=setup.batch_size,
        device=setup.device,
        # a score of images says something beside authentic ones only, and costs another pass
        own_scores=AUTHENTIC in setup.benchmark.configs,
    )
    for number, probability, own_score in maps:
        mask = setup.truth.masks.read(cell.source, ids[number])
        if mask.shape != probability.shape:
            raise AfbenchError(f"{cell}/{ids[number]} has another size than its mask; see `afbench verify`")
        counts[ids[number]] = count_pixels(probability > network.threshold, mask)
        image_scores[ids[number]] = ImageScores(float(probability.max()), top_mean(probability), own_score)


def _count_noise(
    setup: EvaluationSetup,
    truth: Truth,
    cell: Cell,
    ids: Sequence[str],
    images: Sequence[ByteImage],
    tallies: Mapping[tuple[str, str], PredictionTally],
) -> Truth:
    """Count the same images under random signs, as ``generate --attack noise`` makes them; return the truth with them added."""
    phis = [manifest.provenance["phi"] for manifest in setup.benchmark.attacked.values()]
    phi = max((Fraction(text) for text in phis if text is not None), default=NOISE_PHI)
    setting = make_setting("noise", str(phi), large_phi=True)
    masks = [truth.masks.read(cell.source, sample_id).astype("uint8") * 255 for sample_id in ids]
    samples = [Sample(*fields) for fields in zip(ids, images, masks, strict=True)]
    noisy = noisy_images(
        setup.localizer,
        samples,
        setting,
        seed=setup.seed,
        batch_size=setup.batch_size,
        device=setup.device,
    )
    noise_cell = Cell(cell.localizer, cell.source, f"{cell.localizer}-noise-{setting.label}")
    for purifier in _purifiers(setup):
        count_masks(setup, purifier, noise_cell, ids, noisy, tallies[purifier.label, OBLIVIOUS])
    # the first purifier is none: the bare localizer's counts are the baseline of the other sides
    counts = tallies[setup.purifiers[0].label, OBLIVIOUS].counts[noise_cell]
    baselines = {
        sample_id: Baseline(
            truth.cells[cell][sample_id].f1_original, f1(counts[sample_id]), counts[sample_id]
        )
        for sample_id in ids
    }
    return replace(
        truth,
        settings={**truth.settings, noise_cell.config: AttackSetting("noise", float(phi), 0)},
        cells={**truth.cells, noise_cell: {**truth.cells.get(noise_cell, {}), **baselines}},
    )


def _all_ones(setup: EvaluationSetup) -> pd.DataFrame:
    """Score masks that are forged everywhere, on the originals."""
    tally = PredictionTally()
    for cell, samples in setup.truth.cells.items():
        if cell.localizer == setup.name and cell.config in (CLEAN, AUTHENTIC):
            masks = {sample_id: setup.truth.masks.read(cell.source, sample_id) for sample_id in samples}
            tally.counts[cell] = {
                sample_id: Counts(int(mask.sum()), int(mask.size - mask.sum()), 0, 0)
                for sample_id, mask in masks.items()
            }
    return per_image_table(tally, setup.truth)
