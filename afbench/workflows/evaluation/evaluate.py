"""What a localizer finds in a benchmark, bare and behind defences: each image is decoded once, and all of them look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, UsageError
from afbench.defences import Purifier, load_defence
from afbench.defences.purifier import require_owner
from afbench.engine import localize, noisy_images
from afbench.engine.io_pool import Submit, default_threads, threads
from afbench.localizers import load_localizer
from afbench.metrics import Counts, count_pixels, f1
from afbench.plan import make_setting
from afbench.scoring.predictions import PredictionTally
from afbench.scoring.score import per_image_table
from afbench.scoring.truth import AttackSetting, Baseline, Cell, Truth, open_truth
from afbench.storage.identity import identity_of
from afbench.storage.manifests import AUTHENTIC, CLEAN, ORIGINALS, Benchmark, count_rows, open_benchmark

from ..adaptive import adaptive_configs, defended_name, require_oblivious
from ..attacked_localizer import require_architecture, require_attacked
from ..request import config_localizer
from .predict import decoded_batches

OBLIVIOUS, ADAPTIVE = "oblivious", "adaptive"
NOISE_PHI = Fraction(3, 255)
"""Of the noise control, where no attack of the benchmark has a phi."""


@dataclass(frozen=True)
class Side:
    """One localizer behind one defence, against attacks that know it or not; ``per_image`` is as a score's."""

    defence: str
    knowledge: str
    per_image: pd.DataFrame
    trained_on: Sequence[str] = ()


@dataclass(frozen=True)
class Evaluation:
    """All sides of one localizer, the bare one first, and ``all_ones``: what masks that call every pixel forged score.

    ``localizer`` is what configs call it, ``network`` what it is.
    """

    data: Path
    localizer: str
    sides: Sequence[Side]
    all_ones: pd.DataFrame
    network: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opened:
    """A benchmark, the localizer it attacked, and the defences it is to be judged behind, none first."""

    benchmark: Benchmark
    truth: Truth
    name: str
    localizer: Localizer
    purifiers: Sequence[Purifier]
    seed: int
    device: str
    batch_size: int | None


class Evaluations(NamedTuple):
    """What is to be evaluated, localizer by localizer, and a line on every defence that one of them does without."""

    opened: list[Opened]
    notes: list[str]


def open_evaluation(data: Path, *, localizer: str, **given: Any) -> Opened:
    """The same for one localizer: ``open_evaluations`` with no other."""
    return open_evaluations(data, localizers=[localizer], **given).opened[0]


def open_evaluations(
    data: Path,
    *,
    localizers: Sequence[str],
    localizer_name: str | None = None,
    defences: Sequence[str] = (),
    checkpoint: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
) -> Evaluations:
    """Load what an evaluation needs; no image is read.

    Args:
        data: a finished benchmark.
        localizers: what its configs call each localizer, or a user's own ``my_package.my_module:build``.
        localizer_name: what the configs call it, where ``generate`` was told another name, e.g. of hardened weights; of one
            localizer only.
        defences: as ``load_defence`` reads them; the bare localizer is always there. One that was trained for another of
            several localizers is left out, and said.
        checkpoint: weights of the localizer, if they are neither embedded nor registered; of one localizer only.
        seed: of random defences.
        device: where to compute.
        batch_size: images per launch; None to follow their size.
    Raises:
        UsageError: if the benchmark has no config of a localizer, its network, weights or threshold are others, or a
            defence is wrong.
        AfbenchError: if the benchmark is damaged, or attacked untrained weights.
    """
    localizers = list(dict.fromkeys(localizers))
    if len(localizers) > 1 and (checkpoint or localizer_name):
        raise UsageError("--checkpoint and --localizer-name go with one --localizer")
    benchmark = open_benchmark(data)
    networks = [_network(benchmark, one, localizer_name, checkpoint, device) for one in localizers]
    truth = open_truth(data)
    opened, notes = [], []
    refused: dict[str, list[UsageError]] = {text: [] for text in defences}
    for localizer, (name, network) in zip(localizers, networks, strict=True):
        purifiers = {}
        for text in ("none", *defences):
            try:
                defence = load_defence(text, localizer=config_localizer(localizer), device=device, seed=seed)
                require_owner(defence, network)
                purifiers[defence.label] = defence
            except UsageError as error:
                refused[text].append(error)
                notes.append(f"{name} without {text}: {error}")
        provenance = benchmark.configs[require_oblivious(benchmark, name)[0]].provenance
        chosen, made_with = list(purifiers.values()), int(provenance["seed"])
        opened.append(Opened(benchmark, truth, name, network, chosen, made_with, device, batch_size))
    for errors in refused.values():
        if len(errors) == len(localizers):
            raise errors[0]
    return Evaluations(opened, notes)


def _network(
    benchmark: Benchmark, localizer: str, label: str | None, checkpoint: str | None, device: str
) -> tuple[str, Localizer]:
    """What configs call a localizer, and the network itself, which must be the one that every config attacked."""
    name = config_localizer(label or localizer)
    attacked = [
        benchmark.configs[config].provenance["localizer"] for config in require_oblivious(benchmark, name)
    ]
    require_architecture(localizer, attacked[0], benchmark.folder)
    if attacked[0]["untrained"]:
        raise AfbenchError(
            f"'{benchmark.folder}' attacked untrained weights of {name}: figures of random weights mean nothing"
        )
    network = load_localizer(localizer, checkpoint, device=device)
    for one in attacked:
        require_attacked(network, one, benchmark.folder)
    return name, network


def evaluate(
    opened: Opened,
    *,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Count every mask of every side; the same figures as ``predict`` and ``score`` of each side by itself.

    Where the benchmark has no noise control for the localizer, one is made here, at the largest phi of its attacks.

    Args:
        opened: by ``open_evaluation``.
        start: told how many images there are to look at.
        advance: told how many were just looked at.
    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    benchmark, truth = opened.benchmark, opened.truth
    oblivious = require_oblivious(benchmark, opened.name)
    adaptive = {one.label: adaptive_configs(benchmark, opened.name, one) for one in opened.purifiers}
    for config in (config for configs in adaptive.values() for config in configs):
        attacked = benchmark.configs[config].provenance["localizer"]
        require_attacked(opened.localizer, attacked, benchmark.folder)
    originals = [name for name in ORIGINALS if name in benchmark.configs]
    noise = not any(benchmark.configs[name].provenance["attack"] == "noise" for name in oblivious)
    every = [*originals, *oblivious, *(name for names in adaptive.values() for name in names)]
    start(sum(count_rows(benchmark.configs[name]) * (2 if noise and name == CLEAN else 1) for name in every))
    found = {
        (one.label, side): PredictionTally() for one in opened.purifiers for side in (OBLIVIOUS, ADAPTIVE)
    }
    with threads(default_threads()) as submit:
        for config in (*originals, *oblivious):
            for source, ids, images in _images(benchmark, config, submit):
                cell = Cell(opened.name, source, config)
                for purifier in opened.purifiers:
                    _count(opened, purifier, cell, ids, images, found[purifier.label, OBLIVIOUS])
                advance(len(ids))
                if noise and config == CLEAN:
                    truth = _control(opened, truth, cell, ids, images, found)
                    advance(len(ids))
        for purifier in opened.purifiers:
            for config in adaptive[purifier.label]:
                for source, ids, images in _images(benchmark, config, submit):
                    cell = Cell(defended_name(opened.name, purifier), source, config)
                    _count(opened, purifier, cell, ids, images, found[purifier.label, ADAPTIVE])
                    advance(len(ids))
    sides = [
        Side(one.label, side, per_image_table(found[one.label, side], truth), one.trained_on)
        for one in opened.purifiers
        for side in (OBLIVIOUS, ADAPTIVE)
        if found[one.label, side].counts
    ]
    network = identity_of(benchmark.configs[oblivious[0]].provenance)
    return Evaluation(benchmark.folder, opened.name, sides, _all_ones(opened), network)


def _images(
    benchmark: Benchmark, config: str, submit: Submit
) -> Iterator[tuple[str, list[str], list[ByteImage]]]:
    for source in benchmark.configs[config].splits:
        for rows in decoded_batches(benchmark, config, source, submit):
            yield source, rows.ids, rows.images


def _count(
    opened: Opened,
    purifier: Purifier,
    cell: Cell,
    ids: Sequence[str],
    images: Sequence[ByteImage],
    found: PredictionTally,
) -> None:
    counts = found.counts.setdefault(cell, {})
    network = opened.localizer
    maps = localize(
        network, images, defence=purifier.apply, batch_size=opened.batch_size, device=opened.device
    )
    for number, probability in maps:
        mask = opened.truth.masks.read(cell.source, ids[number])
        if mask.shape != probability.shape:
            raise AfbenchError(f"{cell}/{ids[number]} has another size than its mask; see `afbench verify`")
        counts[ids[number]] = count_pixels(probability > network.threshold, mask)


def _control(
    opened: Opened,
    truth: Truth,
    cell: Cell,
    ids: Sequence[str],
    images: Sequence[ByteImage],
    found: Mapping[tuple[str, str], PredictionTally],
) -> Truth:
    """Count the same images under random signs, as ``generate --attack noise`` would make them; adds them to the truth."""
    phis = [manifest.provenance["phi"] for manifest in opened.benchmark.attacked.values()]
    phi = max((Fraction(one) for one in phis if one is not None), default=NOISE_PHI)
    setting = make_setting("noise", str(phi), large_phi=True)
    masks = [truth.masks.read(cell.source, one).astype("uint8") * 255 for one in ids]
    samples = [Sample(*one) for one in zip(ids, images, masks, strict=True)]
    noisy = noisy_images(
        opened.localizer,
        samples,
        setting,
        seed=opened.seed,
        batch_size=opened.batch_size,
        device=opened.device,
    )
    here = Cell(cell.localizer, cell.source, f"{cell.localizer}-noise-{setting.label}")
    for purifier in opened.purifiers:
        _count(opened, purifier, here, ids, noisy, found[purifier.label, OBLIVIOUS])
    # the first purifier is none: what the bare localizer finds is the baseline of the others
    counts = found[opened.purifiers[0].label, OBLIVIOUS].counts[here]
    baselines = {
        sample_id: Baseline(
            truth.cells[cell][sample_id].f1_original, f1(counts[sample_id]), counts[sample_id]
        )
        for sample_id in ids
    }
    return replace(
        truth,
        settings={**truth.settings, here.config: AttackSetting("noise", float(phi), 0)},
        cells={**truth.cells, here: {**truth.cells.get(here, {}), **baselines}},
    )


def _all_ones(opened: Opened) -> pd.DataFrame:
    """The table of masks that are forged everywhere, on the originals."""
    found = PredictionTally()
    for cell, samples in opened.truth.cells.items():
        if cell.localizer == opened.name and cell.config in (CLEAN, AUTHENTIC):
            masks = {one: opened.truth.masks.read(cell.source, one) for one in samples}
            found.counts[cell] = {
                one: Counts(int(mask.sum()), int(mask.size - mask.sum()), 0, 0) for one, mask in masks.items()
            }
    return per_image_table(found, opened.truth)
