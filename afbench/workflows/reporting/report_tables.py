"""Compute the numbers of a report: records of tables and points of curves, from the images of benchmarks and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from afbench.core import UsageError
from afbench.defences.names import NONE
from afbench.plans import ATTACKS
from afbench.report.strength_figure import StrengthCurves, StrengthLine, StrengthPoint
from afbench.scoring.score_tables import CONTROLS, KEYS, build_tables

from ..attack_records import OBLIVIOUS, Record, Side, side_records
from .report_inputs import LocalizerSide, ReportInputs, original_rows

CLOSE = 0.005
"""Greatest difference of a mean F1 between two machines that the levels of determinism allow."""


def merged_sides(sides: Sequence[LocalizerSide]) -> dict[str, list[LocalizerSide]]:
    """Put what several folders hold of one localizer and defence into one side; by localizer, the bare one first.

    What a score repeats of a benchmark, the bare localizer, is left out; of scores without their benchmark it is taken.

    Raises:
        UsageError: if two folders hold the same images of a side.
    """
    groups: dict[str, dict[tuple[str, str], list[LocalizerSide]]] = {}
    for side in sides:
        keys = groups.setdefault(side.localizer, {})
        same = keys.setdefault((side.side.defence, side.side.knowledge), [])
        # a benchmark comes before the scores of it
        if not (same and same[0].side.undefended and not side.side.undefended):
            same.append(side)
    merged = {}
    for localizer, keys in groups.items():
        if (NONE, OBLIVIOUS) not in keys:
            scores = [
                side for (_, knowledge), same in keys.items() for side in same if knowledge == OBLIVIOUS
            ]
            if not scores:
                continue
            bare = Side(NONE, OBLIVIOUS, scores[0].side.per_image, undefended=True)
            keys[NONE, OBLIVIOUS] = [scores[0]._replace(side=bare)]
        order = sorted(keys, key=lambda key: (key[0] != NONE, key))
        merged[localizer] = [_concatenated(keys[key]) for key in order]
    return merged


def _concatenated(sides: Sequence[LocalizerSide]) -> LocalizerSide:
    first = sides[0]
    if len(sides) == 1:
        return first
    per_image = pd.concat([side.side.per_image for side in sides], ignore_index=True)
    if per_image.duplicated(KEYS).any():
        folders = " and ".join(sorted({f"'{side.folder}'" for side in sides}))
        raise UsageError(
            f"{folders} hold the same images of '{first.localizer}', defence {first.side.defence}; give one of them"
        )
    return first._replace(side=replace(first.side, per_image=per_image))


def report_records(inputs: ReportInputs, sides: dict[str, list[LocalizerSide]]) -> list[Record]:
    """Return the records of all localizers and sides, and of evaluations what no benchmark or score holds.

    Raises:
        UsageError: if an evaluation contradicts the benchmark or score: it is of others.
    """
    records: list[Record] = []
    for localizer, localizer_sides in sides.items():
        bare = localizer_sides[0]
        records += side_records(
            localizer,
            bare.network,
            [side.side for side in localizer_sides],
            original_rows(bare.side.per_image[~bare.side.per_image["attack"].isin(CONTROLS)]),
        )
    by_key = {record_key(record): record for record in records}
    for record in inputs.figures:
        stored = by_key.setdefault(record_key(record), record)
        same_images = all(stored[key] == record[key] for key in ("images", "settings"))
        if same_images and abs((stored["f1"] or 0) - (record["f1"] or 0)) > CLOSE:
            raise UsageError(
                f"the evaluation's F1 of {record['localizer']} on {record['source']} under {record['attack']} is "
                f"{record['f1']:.3f}, of the benchmark or another evaluation {stored['f1']:.3f}: they are of different images; "
                "give those that belong together"
            )
    return list(by_key.values())


def record_key(record: Record) -> tuple[str, ...]:
    """Return what two records must not have in common."""
    return tuple(record[key] for key in ("localizer", "source", "attack", "defence", "knowledge"))


def strength_curves(side: LocalizerSide) -> Iterator[StrengthCurves]:
    """Yield the curves of a side for each of its sources; nothing for a source without an attack."""
    per_image = side.side.per_image.assign(localizer="side")
    configs = build_tables(per_image, undefended=side.side.undefended)["configs"]
    for source in sorted({row["source"] for row in configs}):
        rows = [row for row in configs if row["source"] == source]
        originals = [row for row in rows if row["config"] == "clean"]
        lines = list(_lines([row for row in rows if row["attack"] not in CONTROLS]))
        if originals and lines:
            yield StrengthCurves(
                side.localizer, source, side.side.defence, side.side.knowledge, _point(originals[0]), lines
            )


def _lines(rows: Sequence[dict[str, Any]]) -> Iterator[StrengthLine]:
    order = [*ATTACKS, *sorted({row["attack"] for row in rows} - ATTACKS.keys())]
    for attack in order:
        attack_rows = [row for row in rows if row["attack"] == attack]
        axis = "steps" if all(row["phi"] is None for row in attack_rows) else "phi"
        variants: dict[str, list[StrengthPoint]] = {}
        for row in attack_rows:
            # <localizer>-<attack>-<setting>, and six digits where other parameters are not the defaults
            variants.setdefault("-".join(row["config"].split("-")[3:]), []).append(_point(row))
        for variant, points in variants.items():
            shown_variant = (variant or "defaults") if len(variants) > 1 else ""
            yield StrengthLine(attack, shown_variant, axis, sorted(points, key=lambda point: point.strength))


def _strength(row: dict[str, Any]) -> float:
    return float(row["steps"]) if row["phi"] is None else round(255 * row["phi"], 9)


def _point(row: dict[str, Any]) -> StrengthPoint:
    ends = {key: None if row[key] is None else (row[key][0], row[key][1]) for key in ("f1_ci", "rp_ci")}
    strength = 0.0 if row["config"] == "clean" else _strength(row)
    return StrengthPoint(
        row["config"],
        strength,
        row["n"] - row["n_undefined"],
        row["f1"],
        ends["f1_ci"],
        row["rp"],
        ends["rp_ci"],
    )
