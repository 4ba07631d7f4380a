"""The entries of a board: scores whose tables are computed again, with their version and whether they get a rank."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from afbench.storage.manifests import CLEAN

from .chance import constant_masks
from .score_tables import build_tables, ranking_rows
from .stored_scores import StoredScore, verified_tables
from .versions import Parts, version_of

UNRANKED_REASONS = {
    "adaptive": "its attacks know the defence",
    "partial": "it covers a part of the images",
    "untrained": "its localizer has random weights",
}
_IMAGE = ["source", "sample_id"]


@dataclass(frozen=True)
class BoardEntry:
    """A score whose tables were computed again, and its page; ``notes`` are the board's remarks on it."""

    score: StoredScore
    tables: Mapping[str, Any]
    page: str
    notes: tuple[str, ...] = ()

    @property
    def adaptive(self) -> bool:
        return bool(self.score.record["attack_knowledge"] == "adaptive")

    @cached_property
    def constant(self) -> dict[str, str]:
        """Return the localizers for which the masks hardly depend on the image, with the reason."""
        names = self.tables["aggregates"]
        return {name: why for name in names if (why := constant_masks(self.score.per_image, name))}

    def parts(self, localizer: str) -> Parts:
        """Return the configs and sources it covers, with their hashes; empty if the score records none."""
        # scores of earlier versions of afbench record no hashes
        parts: Parts = self.score.record.get("configs_sha256", {}).get(localizer, {})
        return parts

    def version(self, localizer: str) -> str:
        """Name the configs of a localizer that it covers: scores of one version are of the same images."""
        return version_of(self.parts(localizer)) if self.parts(localizer) else self._stated

    def originals(self, localizer: str) -> str:
        """Name the originals that the attacked images were made from."""
        parts = self.parts(localizer)
        return version_of({CLEAN: parts.get(CLEAN, {})}) if parts else self._stated

    @property
    def _stated(self) -> str:
        return str(self.score.record["dataset_version"])

    def standing(self, localizer: str) -> str:
        """Return ``ranked``, or the kind of reason why it is not."""
        record = self.score.record
        if record.get("missing") or not (record["rankable"] or self.constant):
            return "partial"
        if record["untrained"]:
            return "untrained"
        if self.adaptive:
            return "adaptive"
        return "constant" if localizer in self.constant else "ranked"

    def why(self, localizer: str) -> str | None:
        """Explain why it has no rank; None if it has one."""
        standing = self.standing(localizer)
        return self.constant[localizer] if standing == "constant" else UNRANKED_REASONS.get(standing)


def make_entries(scores: Sequence[StoredScore]) -> list[BoardEntry]:
    """Compute every table again and sort by submission.

    An adaptive RP gets the denominator of the ranked RP that it is shown beside.

    Raises:
        AfbenchError: if a score's figures do not follow from its images.
    """
    entries = [BoardEntry(score, verified_tables(score), _page(score)) for score in scores]
    entries.sort(key=lambda entry: (entry.score.record["submission_id"], entry.page))
    return [_rebase_adaptive(entry, entries) if entry.adaptive else entry for entry in entries]


def _page(score: StoredScore) -> str:
    """Return a file name that no text of a submission can influence."""
    canonical = json.dumps(score.record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"submission-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}.html"


def same_defence(first: BoardEntry, second: BoardEntry) -> bool:
    """Return whether two submissions are of one defence of the same authors."""
    return _defence(first) == _defence(second)


def _defence(entry: BoardEntry) -> tuple[Any, ...]:
    record = entry.score.record
    return (
        record["defence"]["type"],
        json.dumps(record["defence"]["params"], sort_keys=True),
        tuple(record["authors"]),
    )


def stands_behind(name: str, localizer: str) -> bool:
    """Return whether ``name`` may be this localizer attacked through a defence: ``<localizer>_<defence>``."""
    return name == localizer or name.startswith(f"{localizer}_")


def images_of(entry: BoardEntry, localizer: str) -> pd.DataFrame:
    """Return the originals of the images that RP covers: pixels, forged pixels and ``f1_original``, by source and sample."""
    rows = ranking_rows(entry.score.per_image)
    rows = rows[rows["localizer"] == localizer]
    table = rows.assign(
        forged=rows["tp"] + rows["fn"], pixels=rows["tp"] + rows["fp"] + rows["fn"] + rows["tn"]
    )
    return table.drop_duplicates(_IMAGE).set_index(_IMAGE)[["forged", "pixels", "f1_original"]].sort_index()


def same_images(first_images: pd.DataFrame, second_images: pd.DataFrame) -> bool:
    """Return whether two tables of images have the same samples with the same masks."""
    return first_images.index.equals(second_images.index) and bool(
        (first_images[["forged", "pixels"]] == second_images[["forged", "pixels"]]).all(axis=None)
    )


def _rebase_adaptive(entry: BoardEntry, entries: Sequence[BoardEntry]) -> BoardEntry:
    """Divide an adaptive RP by the F1 of the bare localizer, like the oblivious RP that it is shown beside.

    Where localizer and defence were attacked as one localizer, the score divides by what both find in the originals.
    """
    rows, notes = entry.score.per_image.copy(), []
    for name in entry.tables["aggregates"]:
        images, candidates = images_of(entry, name), list(_ranked_counterparts(entry, name, entries))
        fitting = [table for _, table in candidates if same_images(images, table)]
        if not fitting:
            notes += [
                f"not shown beside '{candidate.score.record['display_name']}': it is of {len(images)} images, that is of "
                f"{len(table)}, and not all are the same"
                for candidate, table in candidates
            ]
        elif not np.array_equal(images["f1_original"], fitting[0]["f1_original"], equal_nan=True):
            is_of_localizer = rows["localizer"] == name
            keys = pd.MultiIndex.from_frame(rows.loc[is_of_localizer, _IMAGE])
            rows.loc[is_of_localizer, "f1_original"] = fitting[0]["f1_original"].reindex(keys).to_numpy()
            notes.append(
                f"RP of {name} is over the F1 of the bare localizer on the originals, as beside it on the board; its score was "
                "over another"
            )
    # nothing was rebased, so the tables stay valid
    if rows["f1_original"].equals(entry.score.per_image["f1_original"]):
        return replace(entry, notes=tuple(notes))
    tables = build_tables(rows, seen_in_training=entry.score.seen)
    return BoardEntry(replace(entry.score, per_image=rows), tables, entry.page, tuple(notes))


def _ranked_counterparts(
    entry: BoardEntry, name: str, entries: Sequence[BoardEntry]
) -> Iterator[tuple[BoardEntry, pd.DataFrame]]:
    """Yield ranked submissions of the same defence with their images, the longest localizer name first."""
    counterparts = [
        (localizer, candidate)
        for candidate in entries
        if same_defence(entry, candidate)
        for localizer in candidate.tables["aggregates"]
        if stands_behind(name, localizer) and candidate.standing(localizer) == "ranked"
    ]
    # where several names match, the longest is the localizer that was meant
    for localizer, candidate in sorted(counterparts, key=lambda pair: -len(pair[0])):
        yield candidate, images_of(candidate, localizer)
