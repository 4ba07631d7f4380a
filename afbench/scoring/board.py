"""Boards: who keeps how much, who ties, and what cannot be ranked.

One board per set of originals, in it one table per localizer and version of its configs: ranks compare the same images, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from afbench.core import UsageError
from afbench.plan import ATTACKS

from .chance import baseline_tables, chance
from .compare import require_same_rows
from .curves import curves
from .entries import Entry, images_of, make_entries, same_defence, same_images, stands_behind
from .reading import Score
from .statistics import DRAWS, tie_groups
from .submission import ABOUT
from .tables import ranking_rows
from .versions import difference


def build_boards(scores: Sequence[Score]) -> dict[str, Any]:
    """Rank scores; the result is plain data and the same for any order of the scores.

    Submissions against adaptive attacks are of other images: they are listed apart, and their RP stands beside the
    ranked submission of the same defence. So are those that cover a part only.

    Raises:
        UsageError: if two scores are of the same content, or disagree about the benchmark they share.
        AfbenchError: if a score's figures do not follow from its images.
    """
    _refuse_copies(scores)
    entries = make_entries(scores)
    groups: dict[str, dict[str, dict[str, list[Entry]]]] = {}
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


def _refuse_copies(scores: Sequence[Score]) -> None:
    seen: dict[tuple[str, str], Score] = {}
    for score in scores:
        key = str(score.about["dataset_version"]), str(score.about["content_sha256"])
        if key in seen:
            raise UsageError(
                f"AF016: '{score.folder}' has the same content as '{seen[key].folder}'; a board takes it once"
            )
        seen[key] = score


def _tables(
    by_localizer: Mapping[str, Mapping[str, Sequence[Entry]]], everywhere: Sequence[Entry]
) -> Iterator[dict[str, Any]]:
    """One table per localizer and version of its configs, the version with most configs first."""
    for localizer, versions in sorted(by_localizer.items()):
        parts = {version: entries[0].parts(localizer) for version, entries in versions.items()}
        order = sorted(versions, key=lambda version: (-len(parts[version]), version))
        for version in order:
            yield {
                **_table(localizer, versions[version], everywhere),
                "version": version,
                "differs": difference(parts[order[0]], parts[version], "the table above", "this one"),
            }


def _table(localizer: str, mine: Sequence[Entry], everywhere: Sequence[Entry]) -> dict[str, Any]:
    """Rank the submissions of one localizer and one version of its configs."""
    standing = {entry.page: entry.standing(localizer) for entry in mine}
    ranked = [entry for entry in mine if standing[entry.page] == "ranked"]
    whole = [entry for entry in mine if standing[entry.page] in ("ranked", "constant", "adaptive")]
    rows = {entry.page: _rows(entry, localizer) for entry in ranked}
    _require_one_benchmark(ranked, rows, localizer)
    attacks = {attack for entry in whole for attack in entry.tables["aggregates"][localizer]["per_attack"]}
    first = None if not whole else _rows(whole[0], localizer)
    return {
        "localizer": localizer,
        "attacks": [
            name for name in (*ATTACKS, *sorted(attacks - set(ATTACKS) - {"clean"})) if name in attacks
        ],
        "images": 0 if first is None else len(first),
        "sources": [] if first is None else sorted(set(first["source"])),
        "ranked": _ranked(localizer, ranked, rows, everywhere),
        "baselines": _baselines(localizer, whole),
        "adaptive": [_row(entry, localizer) for entry in mine if standing[entry.page] == "adaptive"],
        "unranked": [
            _row(entry, localizer)
            for entry in mine
            if standing[entry.page] in ("partial", "untrained", "constant")
        ],
    }


def _baselines(localizer: str, whole: Sequence[Entry]) -> list[dict[str, Any]]:
    """What stands in every table without a rank: the localizer without a defence, and masks that are forged everywhere."""
    if not whole:
        return []
    tables = baseline_tables(whole[0].score.per_image, localizer)
    return [{"name": name, **_figures(found)} for name, found in tables.items()]


def _rows(entry: Entry, localizer: str) -> pd.DataFrame:
    rows = ranking_rows(entry.score.per_image)
    return rows[rows["localizer"] == localizer].reset_index(drop=True)


def _require_one_benchmark(ranked: Sequence[Entry], rows: Mapping[str, pd.DataFrame], localizer: str) -> None:
    """The same dataset version means the same images, and the same undefended localizer on them."""
    for entry in ranked[1:]:
        leader = ranked[0]
        pair = [_only(one.score, localizer) for one in (leader, entry)]
        require_same_rows(*pair)
        facts = [rows[one.page][["f1_original", "f1_undefended"]].to_numpy() for one in (leader, entry)]
        if facts[0].shape != facts[1].shape or not np.array_equal(*facts):
            raise UsageError(
                f"'{leader.score.folder}' and '{entry.score.folder}' disagree about the undefended localizer on the "
                "same images; one is not of this benchmark"
            )


def _only(score: Score, localizer: str) -> Score:
    rows = score.per_image[score.per_image["localizer"] == localizer]
    return Score(score.folder, score.about, rows)


def _ranked(
    localizer: str,
    entries: Sequence[Entry],
    rows: Mapping[str, pd.DataFrame],
    everywhere: Sequence[Entry],
) -> list[dict[str, Any]]:
    if not entries:
        return []
    first = rows[entries[0].page]
    places = tie_groups(
        {page: table["f1"] for page, table in rows.items()},
        first["source"].tolist(),
        first["sample_id"].tolist(),
        f1_original=first["f1_original"],
    )
    by_page = {entry.page: entry for entry in entries}
    return [
        {
            "rank": place.rank,
            "behind": None if place.behind is None else [place.behind.low, place.behind.high],
            **_row(by_page[place.name], localizer),
            "chance": chance(by_page[place.name].score.per_image, localizer).as_json(),
            "adaptive": _adaptive(by_page[place.name], localizer, everywhere),
        }
        for place in places
    ]


def _row(entry: Entry, localizer: str) -> dict[str, Any]:
    found = entry.tables["aggregates"][localizer]
    return {
        **{name: entry.score.about[name] for name in ABOUT},
        "page": entry.page,
        "dataset_version": entry.version(localizer),
        "content_sha256": entry.score.about["content_sha256"],
        **_figures(found),
        "seen": [name for name, row in found["per_attack"].items() if row["seen_in_training"]],
        "why": entry.why(localizer),
        "warnings": list(entry.score.about["warnings"]),
        "notes": list(entry.notes),
    }


def _figures(aggregates: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "micro": aggregates["micro"],
        "worst_case": aggregates["worst_case"],
        "clean": aggregates["per_attack"].get("clean"),
        "per_attack": {name: row for name, row in aggregates["per_attack"].items() if name != "clean"},
    }


def _adaptive(entry: Entry, localizer: str, everywhere: Sequence[Entry]) -> dict[str, Any] | None:
    """What the same defence of the same authors kept of the same images against attacks through it, the worst if there are several."""
    images, measured = images_of(entry, localizer), []
    for other in everywhere:
        for name, figures in other.tables["aggregates"].items():
            if other.standing(name) != "adaptive" or not stands_behind(name, localizer):
                continue
            theirs = images_of(other, name) if same_defence(entry, other) else None
            if theirs is not None and same_images(images, theirs) and _one_denominator(images, theirs):
                micro = figures["micro"]
                measured.append({"rp": micro["rp"], "rp_ci": micro["rp_ci"], "page": other.page})
    defined = [figures for figures in measured if figures["rp"] is not None]
    return min(defined, key=lambda figures: (figures["rp"], figures["page"])) if defined else None


def _one_denominator(images: pd.DataFrame, others: pd.DataFrame) -> bool:
    return np.array_equal(images["f1_original"], others["f1_original"], equal_nan=True)


def _submission(entry: Entry, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    about = entry.score.about
    return {
        **{name: about[name] for name in ABOUT},
        "page": entry.page,
        "dataset_name": str(about.get("dataset", {}).get("name", "")),
        "dataset_version": str(about["dataset_version"]),
        "content_sha256": about["content_sha256"],
        "afbench_version": about["afbench_version"],
        "rankable": about["rankable"],
        "warnings": [*about["warnings"], *entry.notes],
        "localizers": [
            {
                "localizer": localizer,
                **_place(entry, localizer, boards),
                "aggregates": found,
                "configs": [row for row in entry.tables["configs"] if row["localizer"] == localizer],
                "curves": curves(entry.score.per_image, localizer),
            }
            for localizer, found in entry.tables["aggregates"].items()
        ],
    }


def _place(entry: Entry, localizer: str, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    version = entry.version(localizer)
    ranked = next(
        table["ranked"]
        for board in boards
        for table in board["tables"]
        if (table["localizer"], table["version"]) == (localizer, version)
    )
    row = next((row for row in ranked if row["page"] == entry.page), None)
    return {
        "rank": row and row["rank"],
        "chance": row and row["chance"],
        "ranked": len(ranked),
        "version": version,
        "why": entry.why(localizer),
    }
