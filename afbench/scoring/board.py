"""Boards: who keeps how much, who ties, and what cannot be ranked.

One board per dataset version, in it one table per localizer: ranks compare the same images, or nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from afbench.core import UsageError
from afbench.plan import ATTACKS

from .compare import require_same_images
from .reading import Score, verified_tables
from .statistics import DRAWS, interval, ratio, resample, tie_groups
from .submission import ABOUT
from .tables import ranking_rows

WHY_NOT = {
    "adaptive": "its attacks know the defence",
    "partial": "it covers a part of the images",
    "untrained": "its localizer has random weights",
}


@dataclass(frozen=True)
class Entry:
    """A score with its tables made anew and the page it gets."""

    score: Score
    tables: Mapping[str, Any]
    page: str

    @property
    def version(self) -> str:
        return str(self.score.about["dataset_version"])

    @property
    def standing(self) -> str:
        """``ranked``, or why not."""
        if not self.score.about["rankable"]:
            return "partial"
        if self.score.about["untrained"]:
            return "untrained"
        return "adaptive" if self.score.about["attack_knowledge"] == "adaptive" else "ranked"


def build_boards(scores: Sequence[Score]) -> dict[str, Any]:
    """Rank scores; the result is plain data and the same for any order of the scores.

    Submissions against adaptive attacks are of other images: they are listed apart, and their RP stands beside the
    ranked submission of the same defence. So are those that cover a part only.

    Raises:
        UsageError: if two scores are of the same content, or disagree about the benchmark they share.
        AfbenchError: if a score's figures do not follow from its images.
    """
    _refuse_copies(scores)
    entries = [Entry(score, verified_tables(score), _page(score)) for score in scores]
    entries.sort(key=lambda entry: (entry.score.about["submission_id"], entry.page))
    boards = []
    for version in sorted({entry.version for entry in entries}):
        inside = [entry for entry in entries if entry.version == version]
        localizers = sorted({name for entry in inside for name in entry.tables["aggregates"]})
        tables = [_table(name, inside, entries) for name in localizers]
        boards.append({"dataset_version": version, "tables": tables})
    return {
        "schema_version": 1,
        "draws": DRAWS,
        "boards": boards,
        "submissions": [_submission(entry, boards) for entry in entries],
    }


def _page(score: Score) -> str:
    """A file name that no text of a submission can steer."""
    canonical = json.dumps(score.about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"submission-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}.html"


def _refuse_copies(scores: Sequence[Score]) -> None:
    seen: dict[tuple[str, str], Score] = {}
    for score in scores:
        key = str(score.about["dataset_version"]), str(score.about["content_sha256"])
        if key in seen:
            raise UsageError(
                f"AF016: '{score.folder}' has the same content as '{seen[key].folder}'; a board takes it once"
            )
        seen[key] = score


def _table(localizer: str, entries: Sequence[Entry], everywhere: Sequence[Entry]) -> dict[str, Any]:
    """Rank the submissions of one localizer and one dataset version."""
    mine = [entry for entry in entries if localizer in entry.tables["aggregates"]]
    ranked = [entry for entry in mine if entry.standing == "ranked"]
    rows = {entry.page: _rows(entry, localizer) for entry in ranked}
    _require_one_benchmark(ranked, rows, localizer)
    attacks = {attack for entry in ranked for attack in entry.tables["aggregates"][localizer]["per_attack"]}
    first = next(iter(rows.values()), None)
    return {
        "localizer": localizer,
        "attacks": [
            name for name in (*ATTACKS, *sorted(attacks - set(ATTACKS) - {"clean"})) if name in attacks
        ],
        "images": 0 if first is None else len(first),
        "sources": [] if first is None else sorted(set(first["source"])),
        "ranked": _ranked(localizer, ranked, rows, everywhere),
        "adaptive": [_row(entry, localizer) for entry in mine if entry.standing == "adaptive"],
        "unranked": [_row(entry, localizer) for entry in mine if entry.standing in ("partial", "untrained")],
    }


def _rows(entry: Entry, localizer: str) -> pd.DataFrame:
    rows = ranking_rows(entry.score.per_image)
    return rows[rows["localizer"] == localizer].reset_index(drop=True)


def _require_one_benchmark(ranked: Sequence[Entry], rows: Mapping[str, pd.DataFrame], localizer: str) -> None:
    """The same dataset version means the same images, and the same undefended localizer on them."""
    for entry in ranked[1:]:
        leader = ranked[0]
        pair = [_only(one.score, localizer) for one in (leader, entry)]
        require_same_images(*pair)
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
            "adaptive": _adaptive(by_page[place.name], localizer, everywhere),
        }
        for place in places
    ]


def _row(entry: Entry, localizer: str) -> dict[str, Any]:
    found = entry.tables["aggregates"][localizer]
    return {
        **{name: entry.score.about[name] for name in ABOUT},
        "page": entry.page,
        "dataset_version": entry.version,
        "content_sha256": entry.score.about["content_sha256"],
        "micro": found["micro"],
        "worst_case": found["worst_case"],
        "clean": found["per_attack"].get("clean"),
        "per_attack": {name: row for name, row in found["per_attack"].items() if name != "clean"},
        "seen": [name for name, row in found["per_attack"].items() if row["seen_in_training"]],
        "why": WHY_NOT.get(entry.standing),
        "warnings": len(entry.score.about["warnings"]),
    }


def _adaptive(entry: Entry, localizer: str, everywhere: Sequence[Entry]) -> dict[str, Any] | None:
    """What the same defence of the same authors kept against attacks through it, the worst if there are several."""
    mine = _defence(entry)
    found = []
    for other in everywhere:
        for name, figures in other.tables["aggregates"].items():
            # an attack through a defence is named after both: <localizer>_<defence>
            same = name == localizer or name.startswith(f"{localizer}_")
            if other.standing == "adaptive" and same and _defence(other) == mine:
                micro = figures["micro"]
                found.append({"rp": micro["rp"], "rp_ci": micro["rp_ci"], "page": other.page})
    known = [one for one in found if one["rp"] is not None]
    return min(known, key=lambda one: (one["rp"], one["page"])) if known else None


def _defence(entry: Entry) -> tuple[Any, ...]:
    about = entry.score.about
    return (
        about["defence"]["type"],
        json.dumps(about["defence"]["params"], sort_keys=True),
        tuple(about["authors"]),
    )


def _submission(entry: Entry, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    about = entry.score.about
    return {
        **{name: about[name] for name in ABOUT},
        "page": entry.page,
        "dataset_name": str(about.get("dataset", {}).get("name", "")),
        "dataset_version": entry.version,
        "content_sha256": about["content_sha256"],
        "afbench_version": about["afbench_version"],
        "rankable": about["rankable"],
        "warnings": list(about["warnings"]),
        "localizers": [
            {
                "localizer": localizer,
                **_place(entry, localizer, boards),
                "aggregates": found,
                "configs": [row for row in entry.tables["configs"] if row["localizer"] == localizer],
                "curves": _curves(entry.score.per_image, localizer),
            }
            for localizer, found in entry.tables["aggregates"].items()
        ],
    }


def _place(entry: Entry, localizer: str, boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ranked = next(
        table["ranked"]
        for board in boards
        for table in board["tables"]
        if board["dataset_version"] == entry.version and table["localizer"] == localizer
    )
    rank = next((row["rank"] for row in ranked if row["page"] == entry.page), None)
    return {"rank": rank, "ranked": len(ranked), "why": WHY_NOT.get(entry.standing)}


def _curves(per_image: pd.DataFrame, localizer: str) -> list[dict[str, Any]]:
    """F1 over phi or steps per attack, all sources together; strength 0 is the original."""
    rows = per_image[(per_image["localizer"] == localizer) & per_image["defined"]]
    images = rows[["source", "sample_id"]].drop_duplicates().sort_values(["source", "sample_id"])
    settings = (
        rows[["attack", "phi", "steps"]].drop_duplicates().assign(phi=lambda table: table["phi"].fillna(0.0))
    )
    columns, points = [], []
    for attack, phi, steps in settings.sort_values(["attack", "phi", "steps"]).itertuples(index=False):
        here = rows[(rows["attack"] == attack) & (rows["phi"].fillna(0.0) == phi) & (rows["steps"] == steps)]
        mean = here.groupby(["source", "sample_id"])["f1"].mean()  # another set of parameters is another row
        place = pd.MultiIndex.from_frame(images).get_indexer(mean.index)
        column = np.zeros((len(images), 2))
        column[place] = np.stack([mean, np.ones(len(mean))], axis=1)
        columns.append(column)
        points.append((attack, phi, steps, float(here["f1"].mean()), float(here["f1_undefended"].mean())))
    if not points:
        return []
    drawn = resample(np.concatenate(columns, axis=1), images["source"].tolist())
    sums = np.stack(list(drawn.values())).sum(axis=0)
    by_attack: dict[str, list[dict[str, Any]]] = {}
    for number, (attack, phi, steps, f1, undefended) in enumerate(points):
        ends = interval(ratio(sums[:, 2 * number], sums[:, 2 * number + 1])) if len(images) > 1 else None
        by_attack.setdefault(str(attack), []).append(
            {
                "strength": float(phi) if phi else int(steps),
                "f1": f1,
                "f1_ci": None if ends is None else [ends.low, ends.high],
                "undefended": undefended,
            }
        )
    start = by_attack.pop("clean", [])
    order = [*ATTACKS, *sorted(by_attack.keys() - ATTACKS.keys())]
    return [
        {
            "attack": attack,
            "strength": "steps" if settings.loc[settings["attack"] == attack, "phi"].eq(0).all() else "phi",
            "points": start + by_attack[attack],
        }
        for attack in order
        if attack in by_attack
    ]
