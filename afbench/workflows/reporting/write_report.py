"""Make a report: figures, tables and a page of what benchmarks, scores and evaluations hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from afbench.core import UsageError
from afbench.files import commit_if_changed
from afbench.reports.drawing import Drawing
from afbench.reports.report_page import PAGE, ReportGap, ReportSection, render_report
from afbench.storage.identity import describe_identity
from afbench.storage.manifests import refuse_inside_benchmark
from afbench.work_progress import Progress

from ..attack_records import Record
from .judging_sections import image_section, transfer_section
from .measure_options import MeasureOptions
from .report_inputs import ReportInputs, read_report_inputs
from .report_sections import measuring_gap, steps_section, strength_section, table_section
from .report_tables import merged_sides, report_records

if TYPE_CHECKING:
    import pandas as pd

_SILENT = Progress()


class WrittenReport(NamedTuple):
    """The page, the files beside it, what the report lacks, and F1 and RP of all sources, attacks and defences."""

    page: Path
    files: Sequence[str]
    missing: Sequence[ReportGap]
    records: Sequence[Record]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per source, attack and defence: ``localizer``, ``source``, ``attack``, ``defence``, ``knowledge``, ``images``, ``f1``, ``rp``, ..."""
        import pandas as pd

        return pd.DataFrame(self.records)


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    measure: MeasureOptions | None = None,
    measuring: Progress = _SILENT,
    drawing: Progress = _SILENT,
) -> WrittenReport:
    """Read the folders, draw, and write each file whole, the page last; files of others stay.

    Args:
        folders: finished benchmarks, score folders, and folders that ``afbench evaluate --out`` wrote.
        out: folder of the report; outside the benchmarks, whose list of files is closed.
        measure: also run localizers, for features and masks; None draws what folders hold.
        measuring: counts the images that go through localizers.
        drawing: counts figures.
    Raises:
        UsageError: if a folder is none of these, they contradict each other, or ``out`` cannot hold a report.
        AfbenchError: if a folder is damaged.
    """
    inputs = read_report_inputs(folders)
    require_outside(out)
    sides = merged_sides(inputs.sides)
    records = report_records(inputs, sides)
    missing: list[ReportGap] = []
    sections = [
        strength_section(sides, missing),
        steps_section(records, inputs, missing),
        transfer_section(inputs, missing),
        image_section(inputs, missing),
        _measured_section(inputs, measure, missing, measuring),
        table_section(records, missing),
    ]
    drawing.start(sum(len(section.figures) for section in sections))
    files = render_report(
        f"Report of {', '.join(folder.resolve().name for folder in inputs.folders)}",
        _input_lines(inputs),
        sections,
        missing,
        advance=drawing.advance,
    )
    for name, data in files.items():
        commit_if_changed(out / name, data)
    return WrittenReport(out / PAGE, list(files), missing, records)


def _measured_section(
    inputs: ReportInputs, measure: MeasureOptions | None, missing: list[ReportGap], progress: Progress
) -> ReportSection:
    """Measure features and masks, or say what that costs."""
    drawings: list[Drawing] = []
    if measure is None:
        missing.append(measuring_gap(inputs))
    else:
        from .measured_figures import measured_drawings, open_measurements

        measurements, gaps = open_measurements(inputs.benchmarks, measure)
        missing += gaps
        progress.start(sum(measurement.passes for measurement in measurements))
        for measurement in measurements:
            drawings += measured_drawings(measurement, advance=progress.advance)
    return ReportSection(
        "Features and masks",
        "What attacks and defences do to what a localizer sees, and to the masks it gives.",
        drawings,
    )


def require_outside(out: Path) -> None:
    """Refuse a folder that is a file, or lies inside a benchmark.

    Raises:
        UsageError: with the folder.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    refuse_inside_benchmark(out, as_folder=True)


def _input_lines(inputs: ReportInputs) -> list[str]:
    """Say what the report is drawn from, with the identity of each network."""
    lines = [f"{folder}" for folder in inputs.folders]
    networks = {side.localizer: side.network for side in inputs.sides if side.network}
    lines += [f"localizer {name}: {describe_identity(network)}" for name, network in networks.items()]
    return lines
