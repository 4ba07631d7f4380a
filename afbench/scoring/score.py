"""From a submission to its score: everything is checked first, nothing is written for what is invalid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from afbench.core import AfbenchError, UsageError
from afbench.storage.manifests import read_json
from afbench.version import __version__

from .archive import open_package
from .masks import largest_png
from .output import COLUMNS, check_out, check_score, write_score
from .predictions import (
    Found,
    Ranked,
    is_sample,
    note_baselines,
    note_missing,
    walk_predictions,
    wanted_cells,
)
from .problems import NAMED, InvalidSubmission, Problems
from .submission import ABOUT, Claims, read_claims
from .tables import build_tables
from .truth import Truth, open_truth

SCHEMA_VERSION = 1
_ODD = {
    "baseline": "configs score exactly as the undefended localizer",
    "constant": "masks are of one value",
    "copy": "masks are the truth, pixel by pixel",
}
_NO_MAP = Ranked(math.nan, math.nan)


@dataclass(frozen=True)
class Examined:
    """A valid submission, counted: one row of ``per_image`` per mask; ``missing`` masks if it is partial.

    ``localizers`` say what each one is that the submission stands before, as the benchmark's manifests record it.
    """

    manifest: Mapping[str, Any]
    localizers: Mapping[str, Mapping[str, Any]]
    per_image: pd.DataFrame
    warnings: list[dict[str, Any]]
    content_sha256: str
    dataset_version: str
    missing: int

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {
            "valid": True,
            "masks": len(self.per_image),
            "missing": self.missing,
            "content_sha256": self.content_sha256,
            "warnings": self.warnings,
        }


@dataclass(frozen=True)
class Scored:
    """A score as score.json holds it, and the counts that every figure of it follows from."""

    score: dict[str, Any]
    per_image: pd.DataFrame


def examine(
    submission: Path | str,
    data: Path | str,
    *,
    partial: bool = False,
    board: Path | str | None = None,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Examined:
    """Check a submission and count its masks.

    Args:
        submission: a folder, .zip or .tar(.gz).
        data: the benchmark it predicts on; truth and baselines come from there.
        partial: accept missing predictions.
        board: a folder of score.json files, in which this content must not be yet.
        start: told how many images there are to count.
        advance: told how many were just counted.
    Raises:
        InvalidSubmission: with every problem.
        UsageError: if a path is none of what it should be.
        AfbenchError: if the benchmark is damaged, or of untrained weights.
    """
    submission, truth = Path(submission), open_truth(Path(data))
    taken = _content_on(Path(board)) if board is not None else {}
    problems = Problems()
    most = 2 * sum(map(len, truth.cells.values())) + 10_000
    package = open_package(
        submission,
        problems,
        is_sample=lambda path: is_sample(path, truth),
        max_members=most,
        max_bytes=_budget(truth, most),
    )
    if problems and not package.sizes:
        raise InvalidSubmission(submission.name, problems)
    claims = read_claims(package, 400 * most, truth, problems)
    _refuse_untrained(claims, truth, data)
    start(sum(len(truth.cells[cell]) for cell in wanted_cells(claims, truth)))
    found = walk_predictions(package, claims, truth, problems, advance)
    missing = Problems()
    note_missing(found, claims, truth, missing)
    if not found.counts and not found.refused:
        problems.add("AF004", "predictions", "holds no prediction at all")
    if not partial:
        problems.merge(missing)
    content = found.content_sha256()
    if content in taken:
        problems.add("AF016", "predictions", f"'{taken[content]}' has the very same files")
    if problems:
        raise InvalidSubmission(submission.name, problems)
    note_baselines(found, truth)
    return Examined(
        claims.manifest,
        {name: truth.localizers[name] for name in claims.localizers},
        per_image_table(found, truth),
        _warnings(found.odd),
        content,
        truth.version,
        missing.counts["AF004"],
    )


def score(
    submission: Path | str,
    data: Path | str,
    *,
    out: Path | str | None = None,
    partial: bool = False,
    board: Path | str | None = None,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Scored:
    """Score a submission; with ``out``, write score.json and per_image.parquet there.

    The other arguments, and what is raised, are those of ``examine``. A submission with missing predictions can be
    scored (``partial``) but not ranked.

    Raises:
        UsageError: if ``out`` cannot take this score.
    """
    if out is not None:
        check_out(Path(out), Path(submission), Path(data))
    examined = examine(submission, data, partial=partial, board=board, start=start, advance=advance)
    told = examined.manifest
    found = {
        "schema_version": SCHEMA_VERSION,
        **{key: told[key] for key in (*ABOUT, "dataset")},
        "localizers": dict(examined.localizers),
        "content_sha256": examined.content_sha256,
        "afbench_version": __version__,
        "dataset_version": examined.dataset_version,
        "rankable": not examined.missing,
        "missing": examined.missing,
        "untrained": False,
        "warnings": [one["message"] for one in examined.warnings],
        **build_tables(examined.per_image, seen=told["defence"]["trained_on"]),
    }
    check_score(found)
    if out is not None:
        write_score(Path(out), found, examined.per_image)
    return Scored(found, examined.per_image)


def per_image_table(found: Found, truth: Truth) -> pd.DataFrame:
    """One row per counted mask, sorted by localizer, source, config and sample."""
    rows = []
    for cell in sorted(found.counts):
        facts = truth.facts[cell.config]
        for sample_id, counts in sorted(found.counts[cell].items()):
            baseline = truth.cells[cell][sample_id]
            ranked = found.ranked.get(cell, {}).get(sample_id, _NO_MAP)
            rows.append(
                (*cell, facts.attack, facts.phi, facts.steps, sample_id, *counts, *baseline[:2], *ranked)
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _budget(truth: Truth, most: int) -> int:
    """Bytes that masks and maps of every sample take at most, and a manifest."""
    images = sum(
        largest_png(truth.shapes[cell.source, sample_id])
        for cell, samples in truth.cells.items()
        for sample_id in samples
    )
    return 2 * images + 400 * most


def _refuse_untrained(claims: Claims, truth: Truth, data: Path | str) -> None:
    if untrained := sorted(truth.untrained & set(claims.localizers)):
        raise AfbenchError(
            f"'{data}' attacked untrained weights of {', '.join(untrained)}: scores of random weights mean nothing; "
            "generate it with --checkpoint"
        )


def _content_on(board: Path) -> dict[str, str]:
    """What is on a board: submission ids by content hash."""
    if not board.is_dir():
        raise UsageError(f"--board '{board}' is no folder of score.json files")
    found = {}
    for path in sorted(board.rglob("*.json")):
        told = read_json(path)
        if isinstance(told.get("content_sha256"), str):
            found[told["content_sha256"]] = str(told.get("submission_id"))
    return found


def _warnings(odd: Problems) -> list[dict[str, Any]]:
    return [
        {
            "code": "AF015",
            "kind": kind,
            "message": f"AF015: {count} {_ODD[kind]}, first {min(odd.kept[kind]).where}",
            "count": count,
            "first": [one.where for one in sorted(odd.kept[kind])[:NAMED]],
        }
        for kind, count in sorted(odd.counts.items())
    ]
