"""Make a report: figures, tables and a page of what benchmarks, scores and evaluations hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from afbench.core import UsageError
from afbench.files import commit_if_changed
from afbench.report.evaluation import evaluation_cells, evaluation_csv, evaluation_latex
from afbench.report.report_page import PAGE, ReportGap, ReportSection, ReportTable, render_report
from afbench.report.strength_figure import strength_drawing
from afbench.storage.identity import describe_identity
from afbench.storage.manifests import LOG

from ..attack_records import Record
from .report_inputs import LocalizerSide, ReportInputs, read_report_inputs
from .report_tables import merged_sides, report_records, strength_curves


class WrittenReport(NamedTuple):
    """The page, the files beside it, and what the report lacks."""

    page: Path
    files: Sequence[str]
    missing: Sequence[ReportGap]


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    start: Callable[[int], None] = lambda figures: None,
    advance: Callable[[int], None] = lambda figures: None,
) -> WrittenReport:
    """Read the folders, draw, and write each file whole, the page last; files of others stay.

    Args:
        folders: finished benchmarks, score folders, and folders that ``afbench evaluate --out`` wrote.
        out: folder of the report; outside the benchmarks, whose list of files is closed.
        start: called once with the number of figures.
        advance: called with 1 for each figure that is drawn.
    Raises:
        UsageError: if a folder is none of these, they contradict each other, or ``out`` cannot hold a report.
        AfbenchError: if a folder is damaged.
    """
    inputs = read_report_inputs(folders)
    require_outside(inputs, out)
    sides = merged_sides(inputs.sides)
    records = report_records(inputs, sides)
    missing: list[ReportGap] = []
    sections = [_strength_section(sides, inputs, missing), _table_section(records)]
    start(sum(len(section.figures) for section in sections))
    files = render_report(
        f"Report of {', '.join(folder.resolve().name for folder in inputs.folders)}",
        _input_lines(inputs),
        sections,
        missing,
        advance=advance,
    )
    for name, data in files.items():
        commit_if_changed(out / name, data)
    return WrittenReport(out / PAGE, list(files), missing)


def require_outside(inputs: ReportInputs, out: Path) -> None:
    """Refuse a folder that is a file, or lies inside a benchmark.

    Raises:
        UsageError: with the folder.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    for benchmark in inputs.benchmarks:
        log = (benchmark.folder / LOG).resolve()
        if out.resolve().is_relative_to(benchmark.folder.resolve()) and not out.resolve().is_relative_to(log):
            raise UsageError(
                f"--out '{out}' lies inside the benchmark, which is a closed list; use {benchmark.folder}/log/report"
            )


def _input_lines(inputs: ReportInputs) -> list[str]:
    """Say what the report is drawn from, with the identity of each network."""
    lines = [f"{folder}" for folder in inputs.folders]
    networks = {side.localizer: side.network for side in inputs.sides if side.network}
    lines += [f"localizer {name}: {describe_identity(network)}" for name, network in networks.items()]
    return lines


def _strength_section(
    sides: dict[str, list[LocalizerSide]], inputs: ReportInputs, missing: list[ReportGap]
) -> ReportSection:
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
    return ReportSection(
        "F1 and RP against the strength of attacks",
        "What a localizer still finds as attacks may change more (phi, the largest change of a pixel) or take more steps (C&W).",
        [strength_drawing(curve) for curve in curves],
    )


def _table_section(records: Sequence[Record]) -> ReportSection:
    localizers = list(dict.fromkeys(record["localizer"] for record in records))
    grids = [
        evaluation_cells([record for record in records if record["localizer"] == localizer])
        for localizer in localizers
    ]
    for localizer, grid in zip(localizers, grids, strict=True):
        for number, row in enumerate(grid):
            row.insert(0, localizer if number else "localizer")
    table = ReportTable(
        "table3",
        "Localizers with and without defences (Table III)",
        "Means over images and settings. RP is in percent of the bare localizer's F1 on the originals; ! where that is below the F1 of "
        "a mask that calls every pixel forged.",
        grids,
        evaluation_latex(records),
        evaluation_csv(records),
    )
    return ReportSection(
        "Tables", "The tables of the ANSM paper, with what was measured here.", tables=[table]
    )
