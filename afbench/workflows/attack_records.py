"""Turn tables of scored images into figures: one record per source, attack and side, as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from afbench.plans import ATTACKS
from afbench.reports.evaluation import originals_of
from afbench.scoring.score_tables import CONTROLS, build_tables
from afbench.storage.manifests import AUTHENTIC
from afbench.storage.summary import finds_nothing

OBLIVIOUS, ADAPTIVE = "oblivious", "adaptive"
ALL_SOURCES = "all"
ORIGINAL, NOISE, ALL_ONES = "clean", "noise", "all-ones"
WORST_CASE = "worst-case"
"""Stands for the attack that left the lowest F1 of each image."""
ORDER = (ORIGINAL, *(name for name in ATTACKS if name != NOISE), WORST_CASE, NOISE, ALL_ONES, AUTHENTIC)
"""The order of attacks in a table: attacks and their worst case, then the controls that need no attack, then authentic images."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Side:
    """The results behind one defence against attacks of one knowledge: ``adaptive`` if they went through it, else ``oblivious``.

    ``per_image`` has the columns of a score's table. ``undefended``: read F1 from its column ``f1_undefended``, which holds what a
    benchmark stores, instead of computing it from the counts. ``kind`` and ``params`` say what ``defence`` is.
    """

    defence: str
    knowledge: str
    per_image: pd.DataFrame
    trained_on: Sequence[str] = ()
    kind: str = "none"
    params: Mapping[str, Any] = field(default_factory=dict)
    undefended: bool = False


def side_records(
    localizer: str, network: Mapping[str, Any], sides: Sequence[Side], all_ones: pd.DataFrame
) -> list[Record]:
    """Average F1 and RP over settings, per source and attack of every side; with several sources, also over all of them.

    A record has ``localizer`` (its name in configs), ``architecture`` and ``weights_sha256`` (its identity), ``source``,
    ``attack``, ``defence``, ``defence_type``, ``defence_params``, ``knowledge``, ``f1``, ``rp``, their 95 % intervals ``f1_ci`` and
    ``rp_ci``, ``fpr`` (of authentic images only), ``images`` (distinct ones) and ``settings``; None where a figure is undefined.
    ``finds_nothing`` is true if the bare localizer's F1 on the originals of the source is 0.000 or below that of all-ones masks:
    then RP says nothing. Records of ``worst-case`` take of each image the lowest F1 that any attack left, where there is more
    than one config. Records of ``all-ones`` don't depend on a defence, so they come once, as the bare localizer's.

    Args:
        localizer: its name in configs.
        network: its identity.
        sides: the bare localizer first.
        all_ones: scores of masks that call every pixel forged.
    """
    records = [
        record
        | {"defence": side.defence, "knowledge": side.knowledge}
        | {"defence_type": side.kind, "defence_params": dict(side.params)}
        for side in sides
        for record in table_records(side.per_image, side.trained_on, undefended=side.undefended)
    ]
    bare: Record = {"defence": sides[0].defence, "knowledge": OBLIVIOUS}
    bare |= {"defence_type": sides[0].kind, "defence_params": dict(sides[0].params)}
    # a mask of ones depends on no image, so no defence changes it
    chance = [record | bare for record in table_records(all_ones, ()) if record["attack"] == ORIGINAL]
    records += [record | {"attack": ALL_ONES} for record in chance]
    order = {attack: number for number, attack in enumerate(ORDER)}
    sources = [*sorted({record["source"] for record in records} - {ALL_SOURCES}), ALL_SOURCES]
    records.sort(
        key=lambda record: (
            sources.index(record["source"]),
            order.get(record["attack"], order[WORST_CASE] - 0.5),  # an attack of the maker's own
        )
    )
    identity = {key: network.get(key, "") for key in ("architecture", "weights_sha256")}
    originals = originals_of(records)
    return [
        {
            "localizer": localizer,
            **identity,
            **record,
            "finds_nothing": finds_nothing(*originals.get(record["source"], (None, None))),
        }
        for record in records
    ]


def table_records(per_image: pd.DataFrame, trained_on: Any, *, undefended: bool = False) -> Iterator[Record]:
    """Yield the figures of one side per source and attack, as ``side_records`` describes them, without the side."""
    sources = sorted(per_image["source"].unique())
    yield from (
        record
        for source in sources
        for record in _records(per_image[per_image["source"] == source], str(source), trained_on, undefended)
    )
    if len(sources) > 1:
        yield from _records(per_image, ALL_SOURCES, trained_on, undefended)


def _records(rows: pd.DataFrame, source: str, trained_on: Any, undefended: bool) -> Iterator[Record]:
    # one side is one localizer, whatever its configs call it
    (figures,) = build_tables(
        rows.assign(localizer="side"), seen_in_training=trained_on, undefended=undefended
    )["aggregates"].values()
    attacks = rows[~rows["attack"].isin(CONTROLS)]
    if attacks["config"].nunique() > 1:
        worst = figures["worst_case"]
        yield {
            "attack": WORST_CASE,
            "source": source,
            "fpr": None,
            "seen_in_training": worst["seen_in_training"],
            "images": worst["n"],
            "settings": attacks["config"].nunique(),
            "undefined": worst["n_undefined"],
            **{name: worst[name] for name in ("f1", "f1_ci", "rp", "rp_ci")},
        }
    for attack, statistics in figures["per_attack"].items():
        attack_rows = rows[rows["attack"] == attack]
        authentic = attack_rows["config"] == AUTHENTIC
        common = {"source": source, "fpr": None, "seen_in_training": statistics["seen_in_training"]}
        if statistics["n"]:
            forged = attack_rows[~authentic]
            yield common | {
                "attack": attack,
                "images": len(forged[["source", "sample_id"]].drop_duplicates()),
                "settings": forged["config"].nunique(),
                "undefined": statistics["n_undefined"],
                **{name: statistics[name] for name in ("f1", "f1_ci", "rp", "rp_ci")},
            }
        if authentic.any():
            yield common | {
                "attack": AUTHENTIC,
                "images": int(authentic.sum()),
                "settings": 1,
                "undefined": 0,
                **dict.fromkeys(("f1", "f1_ci", "rp", "rp_ci")),
                "fpr": statistics["fpr"],
            }
