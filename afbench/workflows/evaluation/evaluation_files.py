"""Write an evaluation's tables, JSON and picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.core import UsageError
from afbench.files import commit_bytes, json_bytes
from afbench.report.evaluation import AFTER, evaluation_csv, evaluation_latex
from afbench.report.posting_figure import posting_figure
from afbench.storage.manifests import LOG

if TYPE_CHECKING:
    from .gates import Gate

CSV, LATEX, JSON = "table.csv", "table.tex", "evaluation.json"
POSTED_CSV, POSTED_FIGURE = "after.csv", "after.svg"


def check_targets(data: Path, out: Path | None, picture: Path | None) -> None:
    """Refuse a path that cannot be written to, before any work.

    Raises:
        UsageError: if ``out`` is a file, ``picture`` is no PNG, or either lies inside the benchmark, which is a closed list.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"--out '{out}' is a file; give a folder")
    if picture is not None and (picture.suffix.lower() != ".png" or picture.is_dir()):
        raise UsageError(f"--figure must be a file that ends in .png; found '{picture}'")
    benchmark_path, log = data.resolve(), (data / LOG).resolve()
    for option, target in (("--out", out), ("--figure", picture)):
        if target is None:
            continue
        path = target.resolve()
        # the log is the one folder that the closed list leaves out
        if path.is_relative_to(benchmark_path) and not path.is_relative_to(log):
            raise UsageError(
                f"{option} '{target}' lies inside the benchmark, which is a closed list; use {data}/log/"
            )


def evaluation_json(
    records: Sequence[Mapping[str, Any]],
    gates: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    posted: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return an evaluation as plain data: ``figures`` from ``evaluation_records``, ``gates``, ``warnings`` and, where there
    are steps of posting, ``after`` from ``posted_records``.
    """
    return {
        "schema_version": 1,
        "figures": list(records),
        "gates": list(gates),
        "warnings": list(notes),
        **({"after": list(posted)} if posted else {}),
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


def write_evaluation(
    out: Path,
    records: Sequence[Mapping[str, Any]],
    gates: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    posted: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the table as CSV and LaTeX, figures after posting as CSV and SVG, and everything as JSON, each atomically.

    Raises:
        AfbenchError: if they cannot be written.
    """
    commit_bytes(out / CSV, evaluation_csv(records).encode())
    commit_bytes(out / LATEX, evaluation_latex(records, notes).encode())
    commit_bytes(out / JSON, json_bytes(evaluation_json(records, gates, notes, posted)))
    if posted:
        commit_bytes(out / POSTED_CSV, evaluation_csv(as_columns(posted)).encode())
        commit_bytes(out / POSTED_FIGURE, posting_figure(posted).encode())
