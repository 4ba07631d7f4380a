"""Check and score a submission; nothing is written for an invalid one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from afbench.core import AfbenchError, UsageError
from afbench.metrics import ManyCounts, f1
from afbench.storage.manifests import AUTHENTIC, read_json
from afbench.version import __version__

from .chance import baseline_tables, chance, constant_masks, inverted_masks
from .image_level import OWN, SHARE, image_level, pixel_thresholds, require_score, unknown_score
from .mask_png import largest_png
from .output import COLUMNS, check_out, check_score, write_score
from .package import Package, open_package
from .predictions import (
    ImageScores,
    MapScores,
    PredictionTally,
    expected_cells,
    is_sample,
    note_baselines,
    note_missing,
    parse_path,
    walk_predictions,
)
from .problems import MAX_NAMED, InvalidSubmission, Problems
from .score_tables import build_tables
from .submission import SUBMISSION_FIELDS, Claims, read_claims
from .truth import Truth, open_truth, use_bare_baselines
from .versions import dataset_version

SCHEMA_VERSION = 1
_ODD = {
    "baseline": "configs score exactly as the undefended localizer",
    "constant": "masks are of one value",
    "copy": "masks are the truth, pixel by pixel",
}
_NO_MAP = MapScores(math.nan, math.nan)
_NO_IMAGE_SCORES = ImageScores(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """A valid submission, counted: ``per_image`` has one row per mask; ``missing`` counts the masks that a partial one lacks.

    ``localizers`` describe the defended localizers, as the benchmark's manifests record them.
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
        """Return the verdict as JSON data."""
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
    """A score as score.json holds it, and the counts per image that all its figures follow from."""

    score: dict[str, Any]
    per_image: pd.DataFrame

    @property
    def warnings(self) -> list[str]:
        """Return what the score itself warns of."""
        return list(self.score["warnings"])

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per mask: its config, sample and counts, ``f1`` behind the defence, and ``f1_undefended``, ``f1_original`` of the bare localizer."""
        counts = ManyCounts(*(self.per_image[name].to_numpy() for name in ManyCounts._fields))
        return self.per_image.assign(f1=f1(counts))


def examine(
    submission: Path | str,
    data: Path | str,
    *,
    partial: bool = False,
    board: Path | str | None = None,
    image_score: str | None = None,
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Examined:
    """Check a submission and count its masks.

    Args:
        submission: a folder, .zip or .tar(.gz).
        data: the benchmark it predicts on; truth and baselines come from there.
        partial: accept missing predictions.
        board: a folder of score.json files, in which this content must not be yet.
        image_score: a score of whole images that the submission must allow.
        start: called with the number of images to count.
        advance: called with the number of images just counted.
    Raises:
        InvalidSubmission: with every problem.
        UsageError: if a path is none of what it should be, or ``image_score`` is not known.
        AfbenchError: if the benchmark is damaged, or of untrained weights.
    """
    submission, truth = Path(submission), open_truth(Path(data))
    ids_on_board = _content_on(Path(board)) if board is not None else {}
    problems = Problems()
    # a mask and a map of every sample, and some extra files, which are then refused by name
    max_members = 2 * sum(map(len, truth.cells.values())) + 10_000
    package = open_package(
        submission,
        problems,
        is_sample=lambda path: is_sample(path, truth),
        max_members=max_members,
        max_bytes=_budget(truth, max_members),
    )
    # nothing can be read, so there is nothing else to check
    if problems and not package.sizes:
        raise InvalidSubmission(submission.name, problems)
    claims = read_claims(package, 400 * max_members, truth, problems)
    if not problems:  # a submission's own problems come first
        _require_maps(package, image_score)
    _refuse_untrained(claims, truth, data)
    start(sum(len(truth.cells[cell]) for cell in expected_cells(claims, truth)))
    tally = walk_predictions(package, claims, truth, problems, advance)
    missing = Problems()
    note_missing(tally, claims, truth, missing)
    if not tally.counts and not tally.refused_paths:
        problems.add("AF004", "predictions", "holds no prediction at all")
    if not partial:
        problems.merge(missing)
    content = tally.content_sha256()
    if content in ids_on_board:
        problems.add("AF016", "predictions", f"'{ids_on_board[content]}' has the very same files")
    if problems:
        raise InvalidSubmission(submission.name, problems)
    # only now, since it may refuse the benchmark, and a submission's own problems come first
    if claims.manifest["attack_knowledge"] == "adaptive":
        for localizer in claims.localizers:
            truth = use_bare_baselines(truth, localizer)
    note_baselines(tally, truth)
    per_image = per_image_table(tally, truth)
    return Examined(
        manifest=claims.manifest,
        localizers={name: truth.localizers[name] for name in claims.localizers},
        per_image=per_image,
        warnings=_warnings(tally.oddities) + _inverted(per_image, claims.localizers),
        content_sha256=content,
        parts=_parts(claims, tally, truth),
        not_covered=_not_covered(claims, truth),
        missing=missing.counts["AF004"],
    )


def score(
    submission: Path | str,
    data: Path | str,
    *,
    out: Path | str | None = None,
    partial: bool = False,
    board: Path | str | None = None,
    image_score: str | None = None,
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
    examined = examine(
        submission,
        data,
        partial=partial,
        board=board,
        image_score=image_score,
        start=start,
        advance=advance,
    )
    manifest, localizers = examined.manifest, list(examined.parts)
    warnings = [warning["message"] for warning in examined.warnings]
    constant = {name: why for name in localizers if (why := constant_masks(examined.per_image, name))}
    record = {
        "schema_version": SCHEMA_VERSION,
        **{key: manifest[key] for key in (*SUBMISSION_FIELDS, "dataset")},
        "localizers": dict(examined.localizers),
        "content_sha256": examined.content_sha256,
        "afbench_version": __version__,
        "dataset_version": dataset_version(examined.parts),
        "configs_sha256": examined.parts,
        "not_covered": examined.not_covered,
        "rankable": not examined.missing and len(constant) < len(localizers),
        "missing": examined.missing,
        # ``examine`` refuses untrained weights
        "untrained": False,
        "warnings": warnings + [f"AF015: {name} is not ranked: {why}" for name, why in constant.items()],
        "baselines": {name: _baselines(examined.per_image, name) for name in localizers},
        **build_tables(examined.per_image, seen_in_training=manifest["defence"]["trained_on"]),
        "image_level": image_level(examined.per_image, pixel_thresholds(examined.localizers)),
    }
    require_score(record["image_level"], image_score)
    check_score(record)
    if out is not None:
        write_score(Path(out), record, examined.per_image)
    return Scored(record, examined.per_image)


def per_image_table(tally: PredictionTally, truth: Truth) -> pd.DataFrame:
    """Build a table of one row per counted mask, sorted by localizer, source, config and sample."""
    rows = []
    for cell in sorted(tally.counts):
        setting = truth.settings[cell.config]
        for sample_id, counts in sorted(tally.counts[cell].items()):
            baseline = truth.cells[cell][sample_id]
            map_scores = tally.map_scores.get(cell, {}).get(sample_id, _NO_MAP)
            image_scores = tally.image_scores.get(cell, {}).get(sample_id, _NO_IMAGE_SCORES)
            rows.append(
                (
                    *cell,
                    setting.attack,
                    setting.phi,
                    setting.steps,
                    sample_id,
                    *counts,
                    *baseline[:2],
                    *map_scores,
                    *image_scores,
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _baselines(per_image: pd.DataFrame, localizer: str) -> dict[str, Any]:
    """Return the baselines that a localizer's figures are read beside, over all attacked images."""
    tables, against = baseline_tables(per_image, localizer), chance(per_image, localizer)
    return {
        **{name: table["micro"] for name, table in tables.items()},
        "above_all_ones": against.as_json(),
    }


def _parts(claims: Claims, tally: PredictionTally, truth: Truth) -> dict[str, dict[str, dict[str, str]]]:
    """Return the hashes of the parts that a submission covers, even with masks missing; authentic parts only if it has masks."""
    parts: dict[str, dict[str, dict[str, str]]] = {}
    for cell in expected_cells(claims, truth):
        if cell.config != AUTHENTIC or cell in tally.counts:
            sources = parts.setdefault(cell.localizer, {}).setdefault(cell.config, {})
            sources[cell.source] = truth.parts[cell.config][cell.source]
    return parts


def _not_covered(claims: Claims, truth: Truth) -> list[str]:
    """List configs of the named localizers, with their source, that are newer than the submission."""
    return sorted(
        f"{cell.config} on {cell.source}"
        for cell in truth.cells
        if cell.localizer in claims.localizers and cell.config != AUTHENTIC and not claims.covers(cell)
    )


def _budget(truth: Truth, max_members: int) -> int:
    """Return the bytes that the masks and maps of all samples and the manifest take at most."""
    images = sum(
        largest_png(truth.shapes[cell.source, sample_id])
        for cell, samples in truth.cells.items()
        for sample_id in samples
    )
    return 2 * images + 400 * max_members


def _require_maps(package: Package, image_score: str | None) -> None:
    """Refuse a score of whole images that a submission plainly has not, before its masks are counted."""
    if image_score == OWN:
        raise unknown_score(image_score, "a submission holds masks and maps only")
    if image_score in (None, SHARE):
        return
    paths = map(parse_path, package.sizes)
    if not any(path is not None and path.kind == "probability" for path in paths):
        raise unknown_score(str(image_score), "the submission holds masks only")


def _refuse_untrained(claims: Claims, truth: Truth, data: Path | str) -> None:
    if untrained := sorted(truth.untrained & set(claims.localizers)):
        raise AfbenchError(
            f"'{data}' attacked untrained weights of {', '.join(untrained)}: scores of random weights mean nothing; "
            "generate it with --checkpoint"
        )


def _content_on(board: Path) -> dict[str, str]:
    """Return the submission ids of a board by content hash."""
    if not board.is_dir():
        raise UsageError(f"--board '{board}' is no folder of score.json files")
    ids_by_content = {}
    for path in sorted(board.rglob("*.json")):
        record = read_json(path)
        if isinstance(record.get("content_sha256"), str):
            ids_by_content[record["content_sha256"]] = str(record.get("submission_id"))
    return ids_by_content


def _inverted(per_image: pd.DataFrame, localizers: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {
            "code": "AF015",
            "kind": "inverted",
            "message": f"AF015: {localizer}: {fault}",
            "count": 1,
            "first": [localizer],
        }
        for localizer in localizers
        if (fault := inverted_masks(per_image, localizer))
    ]


def _warnings(oddities: Problems) -> list[dict[str, Any]]:
    return [
        {
            "code": "AF015",
            "kind": kind,
            "message": f"AF015: {count} {_ODD[kind]}, first {min(oddities.first_problems[kind]).location}",
            "count": count,
            "first": [problem.location for problem in sorted(oddities.first_problems[kind])[:MAX_NAMED]],
        }
        for kind, count in sorted(oddities.counts.items())
    ]
