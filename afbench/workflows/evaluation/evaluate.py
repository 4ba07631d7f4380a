"""Localize a benchmark's images with the bare localizer and behind every defence, and count; each image is decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, UsageError
from afbench.defences import Purifier, load_defence
from afbench.defences.post_names import step_text
from afbench.defences.posting import load_step
from afbench.defences.purifier import require_owner
from afbench.engine import localize, noisy_images
from afbench.engine.io_pool import Submit, default_threads, threads
from afbench.localizers import load_localizer
from afbench.metrics import Counts, count_pixels, f1
from afbench.plans import make_setting
from afbench.scoring.predictions import PredictionTally
from afbench.scoring.score import per_image_table
from afbench.scoring.truth import AttackSetting, Baseline, Cell, Truth, open_truth
from afbench.storage.identity import identity_of
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, Benchmark, count_rows, open_benchmark

from ..adaptive import adaptive_configs, attack_size_warning, defended_name, require_oblivious
from ..attacked_localizer import require_architecture, require_attacked
from ..request import config_localizer
from .predict import decoded_batches

OBLIVIOUS, ADAPTIVE = "oblivious", "adaptive"
NOISE_PHI = Fraction(3, 255)
"""The phi of the noise control if no attack of the benchmark has one."""


@dataclass(frozen=True)
class Side:
    """The results behind one defence against attacks of one knowledge: ``adaptive`` if they went through it, else ``oblivious``.

    ``per_image`` has the columns of a score's table.
    """

    defence: str
    knowledge: str
    per_image: pd.DataFrame
    trained_on: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """All sides of one localizer, the bare one first, and ``all_ones``, the scores of masks that call every pixel forged.

    ``posted`` are the sides after each step of posting, whose ``defence`` is that step, as ``jpeg:90``.
    ``localizer`` is the name that configs use; ``network`` identifies the architecture and weights.
    """

    data: Path
    localizer: str
    sides: Sequence[Side]
    all_ones: pd.DataFrame
    network: Mapping[str, Any] = field(default_factory=dict)
    posted: Sequence[Side] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationSetup:
    """A benchmark, the localizer it attacked, and the defences to evaluate that localizer behind, ``none`` first.

    ``steps`` of posting, by the way they are written, are evaluated with the bare localizer.
    """

    benchmark: Benchmark
    truth: Truth
    name: str
    localizer: Localizer
    purifiers: Sequence[Purifier]
    seed: int
    device: str
    batch_size: int | None
    steps: Mapping[str, Purifier] = field(default_factory=dict)


class Evaluations(NamedTuple):
    """One setup per localizer, and a line for every defence that is left out for one of them or was trained at another size."""

    setups: list[EvaluationSetup]
    notes: list[str]


def open_evaluation(data: Path, *, localizer: str, **options: Any) -> EvaluationSetup:
    """Load what the evaluation of one localizer needs; see ``open_evaluations``."""
    return open_evaluations(data, localizers=[localizer], **options).setups[0]


def open_evaluations(
    data: Path,
    *,
    localizers: Sequence[str],
    localizer_name: str | None = None,
    defences: Sequence[str] = (),
    after: Sequence[str] = (),
    checkpoint: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
) -> Evaluations:
    """Load what the evaluation of each localizer needs; no image is read.

    Args:
        data: a finished benchmark.
        localizers: the names that its configs use, or a user's own ``my_package.my_module:build``.
        localizer_name: the name in the configs, if ``generate`` was given another one, e.g. for hardened weights; only
            with one localizer.
        defences: as ``load_defence`` reads them; the bare localizer is always evaluated. With several localizers, a
            defence that was trained for one of them is left out for the others, with a note.
        after: steps of posting, as ``jpeg:90``, that images go through before the bare localizer sees them.
        checkpoint: weights of the localizer, if they are neither embedded nor registered; only with one localizer.
        seed: of random defences.
        device: where to compute.
        batch_size: images per batch; None to follow their size.
    Raises:
        UsageError: if the benchmark has no config of a localizer, attacked another network, other weights or another
            threshold, or a defence is wrong.
        AfbenchError: if the benchmark is damaged, or attacked untrained weights.
    """
    localizers = list(dict.fromkeys(localizers))
    steps = {step_text(text): load_step(text) for text in after}
    if len(localizers) > 1 and (checkpoint or localizer_name):
        raise UsageError("--checkpoint and --localizer-name go with one --localizer")
    benchmark = open_benchmark(data)
    networks = [
        _network(benchmark, localizer, localizer_name, checkpoint, device) for localizer in localizers
    ]
    truth = open_truth(data)
    setups, notes = [], []
    errors_by_defence: dict[str, list[UsageError]] = {text: [] for text in defences}
    for localizer, (name, network) in zip(localizers, networks, strict=True):
        attacked_config = benchmark.configs[require_oblivious(benchmark, name)[0]]
        purifiers = {}  # by label, so that a defence given twice is evaluated once
        for text in ("none", *defences):
            try:
                defence = load_defence(text, localizer=config_localizer(localizer), device=device, seed=seed)
                require_owner(defence, network)
                purifiers[defence.label] = defence
                warning = attack_size_warning(attacked_config, network, defence)
                notes += [] if warning is None else [warning]
            except UsageError as error:
                errors_by_defence[text].append(error)
                notes.append(f"{name} without {text}: {error}")
        setups.append(
            EvaluationSetup(
                benchmark=benchmark,
                truth=truth,
                name=name,
                localizer=network,
                purifiers=list(purifiers.values()),
                seed=int(attacked_config.provenance["seed"]),
                device=device,
                batch_size=batch_size,
                steps=steps,
            )
        )
    # one localizer may do without a defence of another, but a defence that fits none of them is a mistake
    for errors in errors_by_defence.values():
        if len(errors) == len(localizers):
            raise errors[0]
    return Evaluations(setups, notes)


def _network(
    benchmark: Benchmark, localizer: str, label: str | None, checkpoint: str | None, device: str
) -> tuple[str, Localizer]:
    """Return the name that configs use, and the loaded network, which must be the one that every config attacked."""
    name = config_localizer(label or localizer)
    records = [
        benchmark.configs[config].provenance["localizer"] for config in require_oblivious(benchmark, name)
    ]
    require_architecture(localizer, records[0], benchmark.folder)
    if records[0]["untrained"]:
        raise AfbenchError(
            f"'{benchmark.folder}' attacked untrained weights of {name}: figures of random weights mean nothing"
        )
    network = load_localizer(localizer, checkpoint, device=device)
    for record in records:
        require_attacked(network, record, benchmark.folder)
    return name, network


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
            for source, ids, images in _read_images(benchmark, config, submit):
                cell = Cell(setup.name, source, config)
                for purifier in purifiers:
                    _count_masks(setup, purifier, cell, ids, images, tallies[purifier.label, OBLIVIOUS])
                advance(len(ids))
                if lacks_noise and config == CLEAN:
                    truth = _count_noise(setup, truth, cell, ids, images, tallies)
                    advance(len(ids))
        # an attack through a defence says nothing of other defences, so each sees its own configs alone
        for purifier in purifiers:
            for config in adaptive[purifier.label]:
                for source, ids, images in _read_images(benchmark, config, submit):
                    cell = Cell(defended_name(setup.name, purifier), source, config)
                    _count_masks(setup, purifier, cell, ids, images, tallies[purifier.label, ADAPTIVE])
                    advance(len(ids))

    def sides_of(named: Iterable[tuple[str, Purifier]]) -> list[Side]:
        return [
            Side(name, side, per_image_table(tallies[purifier.label, side], truth), purifier.trained_on)
            for name, purifier in named
            for side in (OBLIVIOUS, ADAPTIVE)
            # a defence without adaptive configs has no adaptive side
            if tallies[purifier.label, side].counts
        ]

    sides = sides_of((purifier.label, purifier) for purifier in setup.purifiers)
    posted = sides_of(setup.steps.items())
    network = identity_of(benchmark.configs[oblivious[0]].provenance)
    return Evaluation(benchmark.folder, setup.name, sides, _all_ones(setup), network, posted)


def _purifiers(setup: EvaluationSetup) -> list[Purifier]:
    """List what stands before the localizer, each in turn: nothing, every defence, every step of posting."""
    return [*setup.purifiers, *setup.steps.values()]


def _read_images(
    benchmark: Benchmark, config: str, submit: Submit
) -> Iterator[tuple[str, list[str], list[ByteImage]]]:
    for source in benchmark.configs[config].splits:
        for rows in decoded_batches(benchmark, config, source, submit):
            yield source, rows.ids, rows.images


def _count_masks(
    setup: EvaluationSetup,
    purifier: Purifier,
    cell: Cell,
    ids: Sequence[str],
    images: Sequence[ByteImage],
    tally: PredictionTally,
) -> None:
    counts = tally.counts.setdefault(cell, {})
    network = setup.localizer
    maps = localize(network, images, defence=purifier.apply, batch_size=setup.batch_size, device=setup.device)
    for number, probability in maps:
        mask = setup.truth.masks.read(cell.source, ids[number])
        if mask.shape != probability.shape:
            raise AfbenchError(f"{cell}/{ids[number]} has another size than its mask; see `afbench verify`")
        counts[ids[number]] = count_pixels(probability > network.threshold, mask)


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
        _count_masks(setup, purifier, noise_cell, ids, noisy, tallies[purifier.label, OBLIVIOUS])
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
