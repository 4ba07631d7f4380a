"""Compute the numbers of a report: records of tables and points of curves, from the images of benchmarks and scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from afbench.core import UsageError
from afbench.defences.names import NONE
from afbench.plans import ATTACKS
from afbench.reports.strength_figure import StrengthCurves, StrengthLine, StrengthPoint
from afbench.scoring.score_tables import CONTROLS, KEYS, build_tables
from afbench.storage.manifests import SAME_F1

from ..attack_records import OBLIVIOUS, ORIGINAL, Record, Side, side_records
from .report_inputs import LocalizerSide, ReportInputs, original_rows


def merged_sides(sides: Sequence[LocalizerSide]) -> dict[str, list[LocalizerSide]]:
    """Put what several folders hold of one localizer and defence into one side; by localizer, the bare one first.

    What a score repeats of a benchmark, the bare localizer, is left out; of scores without their benchmark it is taken. Of a
    benchmark attacked only through a defence, the bare localizer's side holds the originals alone.

    Raises:
        UsageError: if two folders hold the same images of a side, or other images than the bare localizer's.
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
            if scores:
                first, rows = scores[0], scores[0].side.per_image
            else:
                first = next(iter(keys.values()))[0]
                rows = original_rows(first.side.per_image)
            bare = Side(NONE, OBLIVIOUS, rows, undefended=True)
            keys[NONE, OBLIVIOUS] = [first._replace(side=bare)]
        for same in keys.values():
            _require_the_same_originals(keys[NONE, OBLIVIOUS], same)
        order = sorted(keys, key=lambda key: (key[0] != NONE, key))
        merged[localizer] = [_concatenated(keys[key]) for key in order]
    return merged


def _require_the_same_originals(bare: Sequence[LocalizerSide], sides: Sequence[LocalizerSide]) -> None:
    """Refuse a side from another folder that is not of the bare localizer's images, or says another F1 of their originals."""
    folders = [side.folder for side in bare]
    expected = _originals(bare)
    for side in sides:
        if side.folder in folders:
            continue
        originals = _originals([side])
        same_sources = expected[expected.index.get_level_values("source").isin(side.side.per_image["source"])]
        if not (
            originals.index.equals(same_sources.index) and (originals - same_sources).abs().mean() <= SAME_F1
        ):
            sources = ", ".join(sorted(side.side.per_image["source"].unique()))
            raise UsageError(
                f"'{side.folder}' is not of the images of '{folders[0]}': originals of {side.localizer} on {sources} differ "
                f"({len(originals)} and {len(same_sources)} images, or their F1); "
                "give a benchmark with the scores of it, and make a report of each"
            )


def _originals(sides: Sequence[LocalizerSide]) -> pd.Series:
    """Return the bare localizer's F1 on the original of each forged image, where it is defined, sorted by source and sample."""
    rows = pd.concat([side.side.per_image for side in sides], ignore_index=True)
    forged = rows[(rows["tp"] + rows["fn"] > 0) & rows["f1_original"].notna()]
    return forged.groupby(["source", "sample_id"], sort=True)["f1_original"].mean()


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
        UsageError: if an evaluation is of other images than the benchmark or score, or contradicts it.
    """
    records: list[Record] = []
    for localizer, localizer_sides in sides.items():
        bare = localizer_sides[0]
        rows = bare.side.per_image
        attacked = rows[~rows["attack"].isin(CONTROLS)]
        records += side_records(
            localizer,
            bare.network,
            [side.side for side in localizer_sides],
            original_rows(attacked if len(attacked) else rows),
        )
    stored_records = {
        record_key(record): StoredRecord(record, sides[record["localizer"]][0].folder) for record in records
    }
    for evaluation in inputs.evaluations:
        for record in evaluation.figures:
            stored = stored_records.setdefault(record_key(record), StoredRecord(record, evaluation.folder))
            _require_agreement(record, evaluation.folder, stored)
    for evaluation in inputs.evaluations:
        for record in evaluation.after:
            stored_record = stored_records.get(record_key(record))
            # after a step of posting, nothing is to compare with
            if stored_record and record["after"] is None:
                _require_agreement(record, evaluation.folder, stored_record)
    return [stored.record for stored in stored_records.values()]


class StoredRecord(NamedTuple):
    """A record that stands in the report, and the folder that it is from."""

    record: Record
    folder: Path


def _require_agreement(record: Record, folder: Path, stored: StoredRecord) -> None:
    """Refuse an evaluation's record of other originals than the stored one, or of another F1 on the same images.

    Raises:
        UsageError: with both folders.
    """
    of_whom = f"{record['localizer']} on {record['source']} under {record['attack']}"
    hint = "give a benchmark with the evaluations of it, and make a report of each"
    is_original = record["attack"] == ORIGINAL and record["defence"] == NONE
    if is_original and record["images"] != stored.record["images"]:
        raise UsageError(
            f"'{folder}' and '{stored.folder}' are of different images: {of_whom} has {record['images']} images in the one, "
            f"{stored.record['images']} in the other; {hint}"
        )
    is_comparable = all(stored.record[key] == record[key] for key in ("images", "settings"))
    if is_comparable and abs((stored.record["f1"] or 0) - (record["f1"] or 0)) > SAME_F1:
        raise UsageError(
            f"'{folder}' contradicts '{stored.folder}': F1 of {of_whom} is {record['f1'] or 0:.3f} in the one, "
            f"{stored.record['f1'] or 0:.3f} in the other: they are of different images; {hint}"
        )


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
        if lines:
            original = _point(originals[0]) if originals else None
            yield StrengthCurves(
                side.localizer, source, side.side.defence, side.side.knowledge, original, lines
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
