"""Write an evaluation's tables, JSON and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.core import UsageError
from afbench.files import commit_bytes, json_bytes
from afbench.reports.evaluation import AFTER, evaluation_csv, evaluation_latex
from afbench.reports.image_table import image_csv
from afbench.reports.steps_figure import posting_svg
from afbench.reports.transfer_figure import transfer_figure
from afbench.reports.transfer_tables import transfer_csv, transfer_latex
from afbench.storage.manifests import refuse_inside_benchmark

if TYPE_CHECKING:
    import pandas as pd

    from .gates import Gate

CSV, LATEX, JSON = "table.csv", "table.tex", "evaluation.json"
IMAGES_CSV = "image_level.csv"
POSTED_CSV, POSTED_FIGURE = "after.csv", "after.svg"
TRANSFER_CSV, TRANSFER_LATEX, TRANSFER_FIGURE = "transfer.csv", "transfer.tex", "transfer.png"


def check_targets(out: Path | None, picture: Path | None) -> None:
    """Refuse a path that cannot be written to, before any work.

    Raises:
        UsageError: if ``out`` is a file, ``picture`` is no PNG, or either lies inside a benchmark, which is a closed list.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    if picture is not None and (picture.suffix.lower() != ".png" or picture.is_dir()):
        raise UsageError(f"--figure must be a file that ends in .png; found '{picture}'")
    if out is not None:
        refuse_inside_benchmark(out, as_folder=True)
    if picture is not None:
        refuse_inside_benchmark(picture, "--figure")


@dataclass
class EvaluationReport:
    """All that an evaluation shows, as plain data.

    ``figures`` are from ``evaluation_records``, ``posted`` (where there are steps of posting) from ``posted_records``,
    ``transfer`` (of several localizers) from ``transfer_records``, ``gates`` from ``gate_json``, ``image_level`` from
    ``image_records``.
    """

    figures: list[dict[str, Any]] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    transfer: list[dict[str, Any]] = field(default_factory=list)
    image_level: list[dict[str, Any]] = field(default_factory=list)

    def to_pandas(self) -> pd.DataFrame:
        """Return the figures as a table: a row per localizer, source, attack and defence."""
        import pandas as pd

        return pd.DataFrame(self.figures)

    def as_json(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "schema_version": 1,
            "figures": self.figures,
            "image_level": self.image_level,
            "gates": self.gates,
            "warnings": self.warnings,
            **({"after": self.posted} if self.posted else {}),
            **({"transfer": self.transfer} if self.transfer else {}),
        }


def as_columns(posted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Turn figures after posting into those of an evaluation whose columns are the steps."""
    return [
        {**record, "defence": f"{AFTER}{record['after']}" if record["after"] else record["defence"]}
        for record in posted
    ]


def gate_json(gate: Gate, localizer: str) -> dict[str, Any]:
    """Return a gate as plain data."""
    return {
        "localizer": localizer,
        "defence": gate.defence,
        "name": gate.name,
        "passed": gate.passed,
        "detail": gate.detail,
    }


def write_evaluation(out: Path, report: EvaluationReport) -> None:
    """Write the table as CSV and LaTeX, figures of whole images as CSV, those after posting as CSV and SVG, those of transfer
    as CSV, LaTeX and PNG, and everything as JSON, each atomically.

    Raises:
        AfbenchError: if they cannot be written.
    """
    # of localizers that no config attacked there is only transfer
    if report.figures:
        commit_bytes(out / CSV, evaluation_csv(report.figures).encode())
        commit_bytes(out / LATEX, evaluation_latex(report.figures, report.warnings).encode())
    commit_bytes(out / JSON, json_bytes(report.as_json()))
    if report.image_level:
        commit_bytes(out / IMAGES_CSV, image_csv(report.image_level).encode())
    if report.posted:
        commit_bytes(out / POSTED_CSV, evaluation_csv(as_columns(report.posted)).encode())
        commit_bytes(out / POSTED_FIGURE, posting_svg(report.posted))
    if report.transfer:
        commit_bytes(out / TRANSFER_CSV, transfer_csv(report.transfer).encode())
        commit_bytes(out / TRANSFER_LATEX, transfer_latex(report.transfer).encode())
        commit_bytes(out / TRANSFER_FIGURE, transfer_figure(report.transfer))
