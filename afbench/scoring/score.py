"""From a submission to its score: everything is checked first, nothing is written for what is invalid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from afbench.core import AfbenchError, UsageError
from afbench.storage.manifests import AUTHENTIC, read_json
from afbench.version import __version__

from .archive import open_package
from .chance import baseline_tables, chance, constant_masks
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
from .truth import Truth, open_truth, over_the_bare
from .versions import dataset_version

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
    ``parts`` are the hashes of the configs and sources it covers, by localizer; ``not_covered`` are configs of its localizers that
    were added to the benchmark after it was made.
    """

    manifest: Mapping[str, Any]
    localizers: Mapping[str, Mapping[str, Any]]
    per_image: pd.DataFrame
    warnings: list[dict[str, Any]]
    content_sha256: str
    parts: dict[str, dict[str, dict[str, str]]]
    not_covered: list[str]
    missing: int

    def as_json(self) -> dict[str, Any]:
        """The verdict for programs."""
        return {
            "valid": True,
            "masks": len(self.per_image),
            "missing": self.missing,
            "not_covered": self.not_covered,
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
    if claims.manifest["attack_knowledge"] == "adaptive":
        for localizer in claims.localizers:
            truth = over_the_bare(truth, localizer)
    note_baselines(found, truth)
    return Examined(
        claims.manifest,
        {name: truth.localizers[name] for name in claims.localizers},
        per_image_table(found, truth),
        _warnings(found.odd),
        content,
        _parts(claims, found, truth),
        _not_covered(claims, truth),
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
    told, localizers = examined.manifest, list(examined.parts)
    warnings = [one["message"] for one in examined.warnings]
    constant = {name: why for name in localizers if (why := constant_masks(examined.per_image, name))}
    found = {
        "schema_version": SCHEMA_VERSION,
        **{key: told[key] for key in (*ABOUT, "dataset")},
        "localizers": dict(examined.localizers),
        "content_sha256": examined.content_sha256,
        "afbench_version": __version__,
        "dataset_version": dataset_version(examined.parts),
        "configs_sha256": examined.parts,
        "not_covered": examined.not_covered,
        "rankable": not examined.missing and len(constant) < len(localizers),
        "missing": examined.missing,
        "untrained": False,
        "warnings": warnings + [f"AF015: {name} is not ranked: {why}" for name, why in constant.items()],
        "baselines": {name: _baselines(examined.per_image, name) for name in localizers},
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


def _baselines(per_image: pd.DataFrame, localizer: str) -> dict[str, Any]:
    """What a localizer's figures are to be read beside, over all attacked images."""
    tables, against = baseline_tables(per_image, localizer), chance(per_image, localizer)
    return {
        **{name: table["micro"] for name, table in tables.items()},
        "above_all_ones": against.as_json(),
    }


def _parts(claims: Claims, found: Found, truth: Truth) -> dict[str, dict[str, dict[str, str]]]:
    """Hashes of what a submission covers, missing masks or not; authentic images only where it has them."""
    covered: dict[str, dict[str, dict[str, str]]] = {}
    for cell in wanted_cells(claims, truth):
        if cell.config != AUTHENTIC or cell in found.counts:
            sources = covered.setdefault(cell.localizer, {}).setdefault(cell.config, {})
            sources[cell.source] = truth.parts[cell.config][cell.source]
    return covered


def _not_covered(claims: Claims, truth: Truth) -> list[str]:
    """Configs of the named localizers, with their source, that a submission was made before."""
    return sorted(
        f"{cell.config} on {cell.source}"
        for cell in truth.cells
        if cell.localizer in claims.localizers and cell.config != AUTHENTIC and not claims.wants(cell)
    )


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
