"""Judge attacks on one localizer by others: a matrix of attackers and victims."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from afbench.engine.io_pool import default_threads, threads
from afbench.metrics import Counts, f1
from afbench.scoring.predictions import PredictionTally
from afbench.scoring.score import per_image_table
from afbench.scoring.score_tables import CONTROLS
from afbench.scoring.truth import Baseline, Cell
from afbench.storage.manifests import CLEAN, Benchmark, count_rows
from afbench.storage.summary import finds_nothing

from ..adaptive import oblivious_configs
from ..attack_records import ALL_SOURCES, ORDER, ORIGINAL, Record, table_records
from .evaluate import count_masks, read_images
from .evaluation_setup import EvaluationSetup
from .victims import attackers_of, is_network

WHITE_BOX, BLACK_BOX = "white-box", "black-box"
_FIGURES = ("f1", "f1_ci", "rp", "rp_ci", "images", "settings", "undefined")


def transfer_records(
    victims: Sequence[EvaluationSetup],
    tables: Mapping[str, pd.DataFrame],
    *,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> list[Record]:
    """Count what every bare victim finds in images attacked with another's gradients; each image is decoded once.

    A record has ``attacker`` and ``victim`` (names in configs; ``attacker`` is None for the originals), the architecture and
    ``weights_sha256`` of both, ``access`` (``white-box`` where the attack was made on the victim's own weights, else
    ``black-box``; None of originals and random noise), ``source``, ``attack``, ``f1``, ``rp`` in percent of the victim's own F1 on the originals, their intervals,
    ``images`` and ``settings``. Of the victim it has ``f1_original`` and ``f1_all_ones``, F1 of masks that call every pixel
    forged, and ``finds_nothing``, which compares the two.

    Args:
        victims: from ``open_evaluations``.
        tables: per image, what an evaluated victim's own configs left of it, by name.
        start: called once with the number of images to localize.
        advance: called with the number of images just localized.
    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    benchmark = victims[0].benchmark
    identities = attackers_of(benchmark)
    # in the order of victims, so that white-box cells are the diagonal
    names = dict.fromkeys([*(victim.name for victim in victims if victim.name in identities), *identities])
    attackers = {name: identities[name] for name in names if not identities[name]["untrained"]}
    counts = _count_all(victims, tables, _missing_configs(victims, tables, attackers), start, advance)
    records = [
        record
        for victim in victims
        for record in _victim_records(victim, counts[victim.name], tables.get(victim.name), attackers)
    ]
    sources = [*sorted({record["source"] for record in records} - {ALL_SOURCES}), ALL_SOURCES]
    attacks = [ORIGINAL, *(name for name in ORDER if name != ORIGINAL)]
    # sorting is stable: attackers and victims stay in order
    records.sort(
        key=lambda record: (
            sources.index(record["source"]),
            attacks.index(record["attack"]) if record["attack"] in attacks else len(attacks),
        )
    )
    return records


def untrained_attackers(benchmark: Benchmark) -> list[str]:
    """Write a line for each attacker that is left out, for its gradients are those of random weights."""
    return [
        f"transfer without {name}: its weights are untrained"
        for name, identity in attackers_of(benchmark).items()
        if identity["untrained"]
    ]


def _missing_configs(
    victims: Sequence[EvaluationSetup], tables: Mapping[str, pd.DataFrame], attackers: Mapping[str, Any]
) -> dict[tuple[str, str], list[EvaluationSetup]]:
    """Return which victims must still see a config, by the attacker it was made against and the config's name."""
    benchmark = victims[0].benchmark
    configs = [("", CLEAN)]
    configs += [(name, config) for name in attackers for config in oblivious_configs(benchmark, name)]
    missing = {}
    for attacker, config in configs:
        # an evaluation has judged the originals and the victim's own configs
        waiting = [
            victim
            for victim in victims
            if victim.name not in tables or (config != CLEAN and victim.name != attacker)
        ]
        if waiting:
            missing[attacker, config] = waiting
    return missing


def _count_all(
    victims: Sequence[EvaluationSetup],
    tables: Mapping[str, pd.DataFrame],
    missing: Mapping[tuple[str, str], Sequence[EvaluationSetup]],
    start: Callable[[int], None],
    advance: Callable[[int], None],
) -> dict[str, PredictionTally]:
    """Let every victim see the configs it lacks."""
    benchmark = victims[0].benchmark
    start(
        sum(count_rows(benchmark.configs[config]) * len(waiting) for (_, config), waiting in missing.items())
    )
    tallies = {victim.name: PredictionTally() for victim in victims}
    with threads(default_threads()) as submit:
        for (attacker, config), waiting in missing.items():
            for source, ids, images in read_images(benchmark, config, submit):
                for victim in waiting:
                    cell = Cell(attacker or victim.name, source, config)
                    count_masks(victim, victim.purifiers[0], cell, ids, images, tallies[victim.name])
                    advance(len(ids))
    return tallies


def _victim_records(
    victim: EvaluationSetup,
    tally: PredictionTally,
    table: pd.DataFrame | None,
    attackers: Mapping[str, Mapping[str, Any]],
) -> Iterator[Record]:
    per_image = _per_image(victim, tally, table)
    originals = per_image[per_image["config"] == CLEAN]
    clean_records = list(table_records(originals, ()))
    f1_original = {record["source"]: record["f1"] for record in clean_records}
    f1_all_ones = {record["source"]: record["f1"] for record in table_records(_all_ones(originals), ())}

    def complete(record: Record, attacker: str | None, access: str | None) -> Record:
        identity = attackers[attacker] if attacker else {}
        baselines = f1_original.get(record["source"]), f1_all_ones.get(record["source"])
        return {
            "attacker": attacker,
            "victim": victim.name,
            # random signs know no network
            "access": None if record["attack"] in CONTROLS else access,
            "source": record["source"],
            "attack": record["attack"],
            **{name: record[name] for name in _FIGURES},
            "f1_original": baselines[0],
            "f1_all_ones": baselines[1],
            "finds_nothing": finds_nothing(*baselines),
            "attacker_architecture": identity.get("architecture"),
            "attacker_weights_sha256": identity.get("weights_sha256"),
            "victim_architecture": victim.localizer.name,
            "victim_weights_sha256": victim.localizer.weights_sha256,
        }

    yield from (complete(record, None, None) for record in clean_records)
    for attacker, identity in attackers.items():
        access = WHITE_BOX if is_network(victim.localizer, identity) else BLACK_BOX
        configs = oblivious_configs(victim.benchmark, attacker)
        rows = per_image[per_image["config"].isin(configs)]
        yield from (complete(record, attacker, access) for record in table_records(rows, ()))


def _per_image(victim: EvaluationSetup, tally: PredictionTally, table: pd.DataFrame | None) -> pd.DataFrame:
    """Return a score's table of all that a victim has seen; the baseline is what it finds in the originals itself."""
    if table is not None:
        originals = table[table["config"] == CLEAN]
        f1_original = {
            (row.source, row.sample_id): f1(Counts(row.tp, row.fp, row.fn, row.tn))
            for row in originals.itertuples()
        }
    else:
        f1_original = {
            (cell.source, sample_id): f1(counts)
            for cell, samples in tally.counts.items()
            if cell.config == CLEAN
            for sample_id, counts in samples.items()
        }
    cells = {
        cell: {
            sample_id: Baseline(f1_original[cell.source, sample_id], f1(counts), counts)
            for sample_id, counts in samples.items()
        }
        for cell, samples in tally.counts.items()
    }
    counted = per_image_table(tally, replace(victim.truth, cells=cells))
    return counted if table is None else pd.concat([table, counted], ignore_index=True)


def _all_ones(originals: pd.DataFrame) -> pd.DataFrame:
    """Replace predictions on the originals by masks that call every pixel forged."""
    forged, authentic = originals["tp"] + originals["fn"], originals["fp"] + originals["tn"]
    return originals.assign(tp=forged, fp=authentic, fn=0, tn=0)
