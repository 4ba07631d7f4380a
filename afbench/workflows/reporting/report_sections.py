"""Choose what a report shows: its figures and tables, and what is missing for others."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple

from afbench.defences.names import NONE
from afbench.reports.evaluation import evaluation_cells, evaluation_csv, evaluation_latex
from afbench.reports.paper import ansm_variants
from afbench.reports.report_page import ReportGap, ReportSection, ReportTable
from afbench.reports.steps_figure import is_swept, posting_drawings, sweep_drawings, sweep_sides
from afbench.reports.strength_figure import strength_drawing
from afbench.storage.manifests import CLEAN, count_rows

from ..attack_records import ALL_SOURCES, Record
from .measure_options import EXAMPLES, MeasureOptions
from .report_inputs import LocalizerSide, ReportInputs
from .report_tables import record_key, strength_curves

SWEEP = {
    "jpeg": ("95", "90", "75", "60"),
    "resize": ("0.9", "0.75", "0.5"),
    "gaussian-noise": ("1/255", "2/255", "4/255", "8/255"),
    "median": ("3", "5", "7"),
}
"""Strengths that the report suggests to evaluate."""


class AblationTable(NamedTuple):
    """A table of ANSM's variants: its file name, its title, and a training that gives a row of it."""

    name: str
    title: str
    command: str


_TRAIN = "afbench train ansm --data TRAIN --localizer reference --out FOLDER"
ABLATIONS = {
    "IV": AblationTable("table4", "Which features ANSM aligns", f"{_TRAIN} --loss ffa --depth shallow"),
    "V": AblationTable(
        "table5", "What ANSM's first stage aligns: pixels or features", f"{_TRAIN} --loss pwr"
    ),
    "VI": AblationTable(
        "table6", "What ANSM's second stage is guided by", f"{_TRAIN} --loss ffa+mgr --mgr-mask gt"
    ),
}
"""By number of the paper's table."""
_POOLED = "All sources together, each image weighing the same."


def strength_section(sides: dict[str, list[LocalizerSide]], missing: list[ReportGap]) -> ReportSection:
    """Return the figures against phi and steps of every localizer, source and defence; say in ``missing`` what is not there."""
    curves = [
        curve
        for localizer_sides in sides.values()
        for side in localizer_sides
        for curve in strength_curves(side)
    ]
    if not curves:
        missing.append(
            ReportGap(
                "F1 and RP against the strength of attacks",
                "They come from a benchmark, or from scores of submissions; an evaluation holds means over all strengths only. Make one:",
                "afbench generate --localizer reference --attack fgsm --attack cw --out OUT",
            )
        )
    attacked = {curve.localizer for curve in curves if curve.defence == NONE}
    for localizer in [name for name in sides if curves and name not in attacked]:
        missing.append(
            ReportGap(
                f"F1 and RP of the bare '{localizer}' against the strength of attacks",
                f"No config attacked the bare localizer '{localizer}', only through a defence. Add some to its benchmark:",
                "afbench generate --localizer reference --attack fgsm --attack cw --out OUT",
            )
        )
    return ReportSection(
        "F1 and RP against the strength of attacks",
        "What a localizer still finds as attacks may change more (phi, the largest change of a pixel) or take more steps (C&W).",
        [strength_drawing(curve) for curve in curves],
    )


def steps_section(records: Sequence[Record], inputs: ReportInputs, missing: list[ReportGap]) -> ReportSection:
    """Return the figures over strengths of transforms and steps of posting; say in ``missing`` what is not there."""
    title = "F1 against the strength of JPEG, resizing, noise and median"
    drawings = list(sweep_drawings(records))
    if not drawings:
        missing.append(
            ReportGap(
                title,
                f"No localizer was evaluated behind a transform at several strengths. {_passes(inputs)} "
                "Run this, and name its --out among the report's folders:",
                sweep_command(inputs),
            )
        )
    drawings += posting_drawings(inputs.after)
    if not inputs.after:
        missing.append(
            ReportGap(
                "F1 after posting",
                "No localizer was evaluated after steps of posting. Run this, and name its --out among the report's folders:",
                f"{evaluate_command(inputs)} --after jpeg:90 --after jpeg:75 --after resize:0.75 --after blur:1 --out evaluation-after",
            )
        )
    return ReportSection(
        title,
        "What a localizer finds in originals and attacked images once they went through a simple transform, and after posting.",
        drawings,
    )


def sweep_command(inputs: ReportInputs) -> str:
    """Return the command that evaluates what the figure of transforms is drawn from."""
    defences = " ".join(
        f"--defence {name}:{setting}" for name, settings in SWEEP.items() for setting in settings
    )
    return f"{evaluate_command(inputs)} {defences} --out evaluation"


def evaluate_command(inputs: ReportInputs) -> str:
    """Return the command that evaluates the first benchmark, with its localizers."""
    folder = str(inputs.benchmarks[0].folder) if inputs.benchmarks else "OUT"
    networks = {
        side.localizer: side.network["architecture"]
        for side in inputs.sides
        if side.folder == (inputs.benchmarks[0].folder if inputs.benchmarks else None)
    }
    if len(networks) > 1 and list(networks) == list(networks.values()):
        names = [f"--localizer {name}" for name in networks]
    else:
        names = [
            f"--localizer {network}" + (f" --localizer-name {name}" if name != network else "")
            for name, network in list(networks.items())[:1]
        ]
    return (
        shlex.join(["afbench", "evaluate", "--data", folder]) + " " + (" ".join(names) or "--localizer NAME")
    )


def _passes(inputs: ReportInputs) -> str:
    """Say what evaluating the transforms costs: images that pass the localizer."""
    settings = sum(map(len, SWEEP.values()))
    images = sum(
        count_rows(manifest) for benchmark in inputs.benchmarks for manifest in benchmark.configs.values()
    )
    return (
        f"It costs {images * (settings + 1)} images through the localizer ({settings} settings)."
        if images
        else ""
    )


def measuring_gap(inputs: ReportInputs) -> ReportGap:
    """Say what the figures of features and masks cost, and how to ask for them."""
    images = 0
    options = MeasureOptions()
    for benchmark in inputs.benchmarks:
        configs = [
            manifest for manifest in benchmark.attacked.values() if "defence" not in manifest.provenance
        ]
        attacks = len({(manifest.localizer_name, manifest.provenance["attack"]) for manifest in configs})
        localizers = len({manifest.localizer_name for manifest in configs})
        for source in benchmark.configs[CLEAN].splits.values():
            count = sum(shard.rows for shard in source.shards)
            images += (min(options.images, count) + min(EXAMPLES, count)) * (localizers + 2 * attacks)
    folders = shlex.join(map(str, inputs.folders)) or "OUT"
    cost = (
        f" It costs about {images} images through the localizer behind one defence; --images asks for fewer."
        if images
        else ""
    )
    return ReportGap(
        "Features in two dimensions, and masks of examples",
        f"They need the attacked localizer.{cost}",
        f"afbench report {folders} --out report --measure",
    )


def table_section(records: Sequence[Record], missing: list[ReportGap]) -> ReportSection:
    """Return Tables III to VI as far as they were measured; say in ``missing`` what was not."""
    sweeps = sweep_sides(records)
    tables = [
        _table(
            "table3",
            "Localizers with and without defences (Table III)",
            "Transforms at several strengths are in their figure." if sweeps else "",
            [record for record in records if not is_swept(record, sweeps)],
        )
    ]
    for number, ablation in ABLATIONS.items():
        rows = ablation_records(records, number)
        if rows:
            tables.append(_table(ablation.name, f"{ablation.title} (Table {number})", _POOLED, rows))
        else:
            missing.append(
                ReportGap(
                    f"{ablation.title} (Table {number})",
                    "No score or evaluation is of a module of this table. Train one so, and the others likewise; then evaluate each with --defence ansm:FOLDER:",
                    ablation.command,
                )
            )
    return ReportSection(
        "Tables", "The tables of the ANSM paper, with what was measured here.", tables=tables
    )


def ablation_records(records: Sequence[Record], number: str) -> list[Record]:
    """Return the records of modules that a table of ablations compares, called by their variant, after the bare localizer's."""
    variants = [
        {**record, "defence": variant}
        for record in _over_all_sources(records)
        for table, variant in ansm_variants(
            {"type": record.get("defence_type"), "params": record.get("defence_params", {})}
        )
        if table == number
    ]
    localizers = {record["localizer"] for record in variants}
    bare = [
        record
        for record in _over_all_sources(records)
        if record["localizer"] in localizers and record["defence"] == NONE
    ]
    # two modules of one variant: each stands in the evaluation, neither in a row of the table
    unique_rows: dict[tuple[str, ...], list[Record]] = {}
    for record in variants:
        unique_rows.setdefault(record_key(record), []).append(record)
    rows = [same[0] for same in unique_rows.values() if len(same) == 1]
    return [*bare, *rows] if rows else []


def _over_all_sources(records: Sequence[Record]) -> list[Record]:
    several = {record["localizer"] for record in records if record["source"] == ALL_SOURCES}
    return [
        record for record in records if record["source"] == ALL_SOURCES or record["localizer"] not in several
    ]


def _table(name: str, title: str, note: str, records: Sequence[Record]) -> ReportTable:
    localizers = list(dict.fromkeys(record["localizer"] for record in records))
    grids = [
        evaluation_cells([record for record in records if record["localizer"] == localizer])
        for localizer in localizers
    ]
    for localizer, grid in zip(localizers, grids, strict=True):
        for number, row in enumerate(grid):
            row.insert(0, localizer if number else "localizer")
    text = (
        "Means over images and settings. RP is in percent of the bare localizer's F1 on the originals; ! where that is below the F1 of "
        f"a mask that calls every pixel forged. {note}"
    )
    return ReportTable(name, title, text, grids, evaluation_latex(records), evaluation_csv(records))
