"""Build leaderboards: ranks, ties, and submissions that cannot be ranked.

There is one board per set of originals. It has one table per localizer and version of its configs, so that ranks
compare results on the same images only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from afbench.core import UsageError
from afbench.plans import ATTACKS
from afbench.plans.headline import STRONG, headline_attack, headline_figures

from .board_entries import BoardEntry, images_of, make_entries, same_defence, same_images, stands_behind
from .chance import baseline_tables, chance
from .compare import require_same_rows
from .curves import curves
from .resampling import DRAWS
from .score_tables import CONTROLS, headline_rows, ranking_rows
from .statistics import few_images_warning
from .stored_scores import StoredScore
from .submission import SUBMISSION_FIELDS
from .ties import tie_groups
from .versions import difference


def build_boards(scores: Sequence[StoredScore]) -> dict[str, Any]:
    """Rank scores; the result is plain data and the same for any order of the scores.

    Submissions against adaptive attacks are of other images: they are listed apart, and their RP stands beside the
    ranked submission of the same defence. So are those that cover a part only.

    Raises:
        UsageError: if two scores are of the same content, or disagree about the benchmark they share.
        AfbenchError: if a score's figures do not follow from its images.
    """
    _refuse_copies(scores)
    entries = make_entries(scores)
    groups: dict[str, dict[str, dict[str, list[BoardEntry]]]] = {}
    for entry in entries:
        for name in entry.tables["aggregates"]:
            group = groups.setdefault(entry.originals(name), {}).setdefault(name, {})
            group.setdefault(entry.version(name), []).append(entry)
    boards = [
        {"dataset_version": version, "tables": list(_tables(by_localizer, entries))}
        for version, by_localizer in sorted(groups.items())
    ]
    return {
        "schema_version": 1,
        "draws": DRAWS,
        "boards": boards,
        "submissions": [_submission(entry, boards) for entry in entries],
    }


def _refuse_copies(scores: Sequence[StoredScore]) -> None:
    scores_by_content: dict[tuple[str, str], StoredScore] = {}
    for score in scores:
        key = str(score.record["dataset_version"]), str(score.record["content_sha256"])
        if key in scores_by_content:
            raise UsageError(
                f"AF016: '{score.folder}' has the same content as '{scores_by_content[key].folder}'; a board takes it once"
            )
        scores_by_content[key] = score


def _tables(
    by_localizer: Mapping[str, Mapping[str, Sequence[BoardEntry]]], all_entries: Sequence[BoardEntry]
) -> Iterator[dict[str, Any]]:
    """Yield one table per localizer and version of its configs, the version with most configs first."""
    for localizer, versions in sorted(by_localizer.items()):
        parts = {version: entries[0].parts(localizer) for version, entries in versions.items()}
        order = sorted(versions, key=lambda version: (-len(parts[version]), version))
        for version in order:
            yield {
                **_table(localizer, versions[version], all_entries),
                "version": version,
                "differs": difference(parts[order[0]], parts[version], "the table above", "this one"),
            }


def _table(
    localizer: str, entries: Sequence[BoardEntry], all_entries: Sequence[BoardEntry]
) -> dict[str, Any]:
    """Rank the submissions of one localizer and one version of its configs."""
    standing = {entry.page: entry.standing(localizer) for entry in entries}
    ranked_entries = [entry for entry in entries if standing[entry.page] == "ranked"]
    complete_entries = [
        entry for entry in entries if standing[entry.page] in ("ranked", "constant", "adaptive")
    ]
    rows = {entry.page: _rows(entry, localizer) for entry in ranked_entries}
    _require_one_benchmark(ranked_entries, rows, localizer)
    attacks = {
        attack for entry in complete_entries for attack in entry.tables["aggregates"][localizer]["per_attack"]
    }
    first = None if not complete_entries else _rows(complete_entries[0], localizer)
    return {
        "localizer": localizer,
        "ranked_by": headline_attack(attacks),
        "attacks": [
            name for name in (*ATTACKS, *sorted(attacks - set(ATTACKS) - {"clean"})) if name in attacks
        ],
        "images": 0 if first is None else len(first),
        "warning": None if first is None else few_images_warning(_original_count(first)),
        "sources": [] if first is None else sorted(set(first["source"])),
        "ranked": _ranked_rows(localizer, ranked_entries, rows, all_entries),
        "baselines": _baselines(localizer, complete_entries),
        "adaptive": [_row(entry, localizer) for entry in entries if standing[entry.page] == "adaptive"],
        "unranked": [
            _row(entry, localizer)
            for entry in entries
            if standing[entry.page] in ("partial", "untrained", "constant")
        ],
    }


def _original_count(rows: pd.DataFrame) -> int:
    return len(rows[["source", "sample_id"]].drop_duplicates())


def _baselines(localizer: str, complete_entries: Sequence[BoardEntry]) -> list[dict[str, Any]]:
    """Return the unranked rows of every table: the localizer without a defence, and masks that are forged everywhere."""
    if not complete_entries:
        return []
    tables = baseline_tables(complete_entries[0].score.per_image, localizer)
    return [{"name": name, **_figures(aggregates)} for name, aggregates in tables.items()]


def _rows(entry: BoardEntry, localizer: str) -> pd.DataFrame:
    rows = ranking_rows(entry.score.per_image)
    return rows[rows["localizer"] == localizer].reset_index(drop=True)


def _require_one_benchmark(
    entries: Sequence[BoardEntry], rows: Mapping[str, pd.DataFrame], localizer: str
) -> None:
    """Refuse entries of one version that differ in their images or in the undefended localizer's F1."""
    for entry in entries[1:]:
        leader = entries[0]
        pair = [_only(board_entry.score, localizer) for board_entry in (leader, entry)]
        require_same_rows(*pair)
        baselines = [
            rows[board_entry.page][["f1_original", "f1_undefended"]].to_numpy()
            for board_entry in (leader, entry)
        ]
        # rows are sorted alike, so equal arrays mean equal figures of every image
        if baselines[0].shape != baselines[1].shape or not np.array_equal(*baselines):
            raise UsageError(
                f"'{leader.score.folder}' and '{entry.score.folder}' disagree about the undefended localizer on the "
                "same images; one is not of this benchmark"
            )


def _only(score: StoredScore, localizer: str) -> StoredScore:
    rows = score.per_image[score.per_image["localizer"] == localizer]
    return StoredScore(score.folder, score.record, rows)


def _ranked_rows(
    localizer: str,
    entries: Sequence[BoardEntry],
    rows: Mapping[str, pd.DataFrame],
    all_entries: Sequence[BoardEntry],
) -> list[dict[str, Any]]:
    if not entries:
        return []
    rows = {page: headline_rows(table) for page, table in rows.items()}
    first = rows[entries[0].page]
    standings = tie_groups(
        {page: table["f1"] for page, table in rows.items()},
        first["source"].tolist(),
        first["sample_id"].tolist(),
        f1_original=first["f1_original"],
    )
    by_page = {entry.page: entry for entry in entries}
    return [
        {
            "rank": standing.rank,
            "behind": None if standing.behind is None else [standing.behind.low, standing.behind.high],
            **_row(by_page[standing.name], localizer),
            "chance": chance(by_page[standing.name].score.per_image, localizer).as_json(),
            "adaptive": _adaptive(by_page[standing.name], localizer, all_entries),
        }
        for standing in standings
    ]


def _row(entry: BoardEntry, localizer: str) -> dict[str, Any]:
    aggregates = entry.tables["aggregates"][localizer]
    return {
        **{name: entry.score.record[name] for name in SUBMISSION_FIELDS},
        "page": entry.page,
        "dataset_version": entry.version(localizer),
        "content_sha256": entry.score.record["content_sha256"],
        **_figures(aggregates),
        "seen": [name for name, row in aggregates["per_attack"].items() if row["seen_in_training"]],
        "why": entry.why(localizer),
        "warnings": list(entry.score.record["warnings"]),
        "notes": list(entry.notes),
    }


def _figures(aggregates: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "robustness": headline_figures(aggregates),
        "micro": aggregates["micro"],
        "worst_case": aggregates["worst_case"],
        "clean": aggregates["per_attack"].get("clean"),
        "per_attack": {name: row for name, row in aggregates["per_attack"].items() if name != "clean"},
    }


def _adaptive(entry: BoardEntry, localizer: str, all_entries: Sequence[BoardEntry]) -> dict[str, Any] | None:
    """Return the lowest adaptive RP of the same defence, by the same authors, on the same images; None if there is none."""
    figures_against = []
    for candidate in all_entries:
        if not same_defence(entry, candidate):
            continue
        for name, figures in candidate.tables["aggregates"].items():
            if candidate.standing(name) != "adaptive" or not stands_behind(name, localizer):
                continue
            images, adaptive_images = images_of(entry, localizer), images_of(candidate, name)
            if same_images(images, adaptive_images) and _one_denominator(images, adaptive_images):
                robustness = headline_figures(figures)
                attacks = [attack for attack in figures["per_attack"] if attack not in CONTROLS]
                figures_against.append(
                    {
                        "rp": robustness["rp"],
                        "rp_ci": robustness["rp_ci"],
                        "page": candidate.page,
                        "attacks": [STRONG] if headline_attack(attacks) == STRONG else attacks,
                    }
                )
    defined = [figures for figures in figures_against if figures["rp"] is not None]
    return min(defined, key=lambda figures: (figures["rp"], figures["page"])) if defined else None


def _one_denominator(images: pd.DataFrame, adaptive_images: pd.DataFrame) -> bool:
    return np.array_equal(images["f1_original"], adaptive_images["f1_original"], equal_nan=True)


def _submission(entry: BoardEntry, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    record = entry.score.record
    return {
        **{name: record[name] for name in SUBMISSION_FIELDS},
        "page": entry.page,
        "dataset_name": str(record.get("dataset", {}).get("name", "")),
        "dataset_version": str(record["dataset_version"]),
        "content_sha256": record["content_sha256"],
        "afbench_version": record["afbench_version"],
        "rankable": record["rankable"],
        "warnings": [*record["warnings"], *entry.notes],
        "localizers": [
            {
                "localizer": localizer,
                **_rank_on_board(entry, localizer, boards),
                "aggregates": aggregates,
                "configs": [row for row in entry.tables["configs"] if row["localizer"] == localizer],
                "curves": curves(entry.score.per_image, localizer),
            }
            for localizer, aggregates in entry.tables["aggregates"].items()
        ],
    }


def _rank_on_board(entry: BoardEntry, localizer: str, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    version = entry.version(localizer)
    ranked_rows = next(
        table["ranked"]
        for board in boards
        for table in board["tables"]
        if (table["localizer"], table["version"]) == (localizer, version)
    )
    row = next((row for row in ranked_rows if row["page"] == entry.page), None)
    return {
        "rank": row and row["rank"],
        "chance": row and row["chance"],
        "ranked": len(ranked_rows),
        "ranked_by": headline_attack(entry.tables["aggregates"][localizer]["per_attack"]),
        "version": version,
        "why": entry.why(localizer),
    }
