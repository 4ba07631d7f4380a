"""What stands on a board: a score with its tables made anew, what it is a version of, and whether it has a rank."""

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
from .reading import Score, verified_tables
from .tables import build_tables, ranking_rows
from .versions import Parts, version_of

WHY_NOT = {
    "adaptive": "its attacks know the defence",
    "partial": "it covers a part of the images",
    "untrained": "its localizer has random weights",
}
_IMAGE = ["source", "sample_id"]


@dataclass(frozen=True)
class Entry:
    """A score with its tables made anew and the page it gets; ``notes`` are what the board has to say of it."""

    score: Score
    tables: Mapping[str, Any]
    page: str
    notes: tuple[str, ...] = ()

    @property
    def adaptive(self) -> bool:
        return bool(self.score.about["attack_knowledge"] == "adaptive")

    @cached_property
    def constant(self) -> dict[str, str]:
        """Localizers on whose images the masks hardly depend, and why that is said."""
        names = self.tables["aggregates"]
        return {name: why for name in names if (why := constant_masks(self.score.per_image, name))}

    def parts(self, localizer: str) -> Parts:
        """The configs and sources it covers, with their hashes; none in a score that says nothing of them."""
        covered: Parts = self.score.about.get("configs_sha256", {}).get(localizer, {})
        return covered

    def version(self, localizer: str) -> str:
        """Which configs of a localizer it covers: scores of one version are of the same images."""
        return version_of(self.parts(localizer)) if self.parts(localizer) else self._stated

    def originals(self, localizer: str) -> str:
        """Which originals these were made from."""
        parts = self.parts(localizer)
        return version_of({CLEAN: parts.get(CLEAN, {})}) if parts else self._stated

    @property
    def _stated(self) -> str:
        return str(self.score.about["dataset_version"])

    def standing(self, localizer: str) -> str:
        """``ranked``, or why not."""
        about = self.score.about
        if about.get("missing") or not (about["rankable"] or self.constant):
            return "partial"
        if about["untrained"]:
            return "untrained"
        if self.adaptive:
            return "adaptive"
        return "constant" if localizer in self.constant else "ranked"

    def why(self, localizer: str) -> str | None:
        """Why it has no rank."""
        standing = self.standing(localizer)
        return self.constant[localizer] if standing == "constant" else WHY_NOT.get(standing)


def make_entries(scores: Sequence[Score]) -> list[Entry]:
    """Make every table anew, adaptive ones over the denominator of what they stand beside; in an order of names.

    Raises:
        AfbenchError: if a score's figures do not follow from its images.
    """
    entries = [Entry(score, verified_tables(score), _page(score)) for score in scores]
    entries.sort(key=lambda entry: (entry.score.about["submission_id"], entry.page))
    return [_over_the_bare(entry, entries) if entry.adaptive else entry for entry in entries]


def _page(score: Score) -> str:
    """A file name that no text of a submission can steer."""
    canonical = json.dumps(score.about, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"submission-{hashlib.sha256(canonical.encode()).hexdigest()[:32]}.html"


def same_defence(entry: Entry, other: Entry) -> bool:
    """Whether two submissions are of one defence of the same authors."""
    return _defence(entry) == _defence(other)


def _defence(entry: Entry) -> tuple[Any, ...]:
    about = entry.score.about
    return (
        about["defence"]["type"],
        json.dumps(about["defence"]["params"], sort_keys=True),
        tuple(about["authors"]),
    )


def stands_behind(name: str, localizer: str) -> bool:
    """Whether an attack on what is called ``name`` may be one on this localizer through a defence: ``<localizer>_<defence>``."""
    return name == localizer or name.startswith(f"{localizer}_")


def images_of(entry: Entry, localizer: str) -> pd.DataFrame:
    """The images whose attacked versions RP is over: their size, forged pixels and ``f1_original``, by source and sample."""
    rows = ranking_rows(entry.score.per_image)
    rows = rows[rows["localizer"] == localizer]
    table = rows.assign(
        forged=rows["tp"] + rows["fn"], pixels=rows["tp"] + rows["fp"] + rows["fn"] + rows["tn"]
    )
    return table.drop_duplicates(_IMAGE).set_index(_IMAGE)[["forged", "pixels", "f1_original"]].sort_index()


def same_images(images: pd.DataFrame, others: pd.DataFrame) -> bool:
    """Whether two tables of images have the same samples with the same masks."""
    return images.index.equals(others.index) and bool(
        (images[["forged", "pixels"]] == others[["forged", "pixels"]]).all(axis=None)
    )


def _over_the_bare(entry: Entry, entries: Sequence[Entry]) -> Entry:
    """Put an adaptive RP over the F1 of the bare localizer, as the oblivious one beside it.

    Where localizer and defence were attacked as a localizer of its own, its score is over what both find in the originals.
    """
    rows, notes = entry.score.per_image.copy(), []
    for name in entry.tables["aggregates"]:
        images, others = images_of(entry, name), list(_beside(entry, name, entries))
        fitting = [table for _, table in others if same_images(images, table)]
        if not fitting:
            notes += [
                f"not shown beside '{other.score.about['display_name']}': it is of {len(images)} images, that is of "
                f"{len(table)}, and not all are the same"
                for other, table in others
            ]
        elif not np.array_equal(images["f1_original"], fitting[0]["f1_original"], equal_nan=True):
            chosen = rows["localizer"] == name
            keys = pd.MultiIndex.from_frame(rows.loc[chosen, _IMAGE])
            rows.loc[chosen, "f1_original"] = fitting[0]["f1_original"].reindex(keys).to_numpy()
            notes.append(
                f"RP of {name} is over the F1 of the bare localizer on the originals, as beside it on the board; its score was "
                "over another"
            )
    if rows["f1_original"].equals(entry.score.per_image["f1_original"]):
        return replace(entry, notes=tuple(notes))
    tables = build_tables(rows, seen=entry.score.seen)
    return Entry(replace(entry.score, per_image=rows), tables, entry.page, tuple(notes))


def _beside(entry: Entry, name: str, entries: Sequence[Entry]) -> Iterator[tuple[Entry, pd.DataFrame]]:
    """Ranked submissions of the same defence, that of the longest name first, with their images."""
    ranked = [
        (localizer, other)
        for other in entries
        if same_defence(entry, other)
        for localizer in other.tables["aggregates"]
        if stands_behind(name, localizer) and other.standing(localizer) == "ranked"
    ]
    for localizer, other in sorted(ranked, key=lambda pair: -len(pair[0])):
        yield other, images_of(other, localizer)
