"""Walk the files of a submission once: check each, count it against the truth, and keep what the score needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from afbench.metrics import Counts, auc, count_pixels, f1, f1_best
from afbench.storage.manifests import AUTHENTIC

from . import arrays
from .archive import HDF5, MANIFEST, Member, Package
from .masks import largest_png, read_mask, read_probability
from .parquet import read_parquet
from .problems import Problems, Refused
from .submission import Claims
from .truth import Baseline, Cell, Truth

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


class Place(NamedTuple):
    """What a path stands for: a mask, a probability map or a table of masks; ``sample_id`` is empty for a table."""

    kind: str
    cell: Cell
    sample_id: str


class Ranked(NamedTuple):
    """What a probability map is worth; NaN where undefined."""

    auc: float
    f1_best: float


@dataclass
class Found:
    """What a walk gathers: counts of decoded masks and probability figures by cell and sample, oddities, and hashes by path.

    ``claimed`` are the masks that were there, decoded or not; ``refused`` the paths of masks that a problem was noted for.
    """

    counts: dict[Cell, dict[str, Counts]] = field(default_factory=dict)
    claimed: set[tuple[Cell, str]] = field(default_factory=set)
    ranked: dict[Cell, dict[str, Ranked]] = field(default_factory=dict)
    odd: Problems = field(default_factory=Problems)
    hashes: dict[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def content_sha256(self) -> str:
        """One hash of all predictions: paths and hashes in order of paths, whatever they were packed in."""
        lines = (
            f"{digest}  {path}\n"
            for path, digest in sorted(self.hashes.items())
            if path.startswith("predictions/")
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def place_of(path: str) -> Place | None:
    """Read a path by the layout of a submission; None if it has no place in it."""
    parts = path.split("/")
    if len(parts) == 5 and path.endswith(".png") and parts[0] in ("predictions", "probs"):
        kind = "mask" if parts[0] == "predictions" else "probability"
        return Place(kind, Cell(*parts[1:4]), parts[4].removesuffix(".png"))
    if len(parts) == 4 and path.endswith(".parquet") and parts[0] == "predictions":
        return Place("table", Cell(parts[1], parts[2], parts[3].removesuffix(".parquet")), "")
    return None


def mask_path(cell: Cell, sample_id: str) -> str:
    """Where the PNG of a mask belongs."""
    return f"predictions/{cell}/{sample_id}.png"


def is_sample(path: str, truth: Truth) -> bool:
    """Whether a path stands for a sample of the benchmark."""
    place = place_of(path)
    return place is not None and place.sample_id in truth.cells.get(place.cell, ())


def wanted_cells(claims: Claims, truth: Truth) -> list[Cell]:
    """The cells of the localizers that a submission names: all of them, or those that were there when it was made."""
    return [cell for cell in truth.cells if cell.localizer in claims.localizers and claims.wants(cell)]


def walk_predictions(
    package: Package,
    claims: Claims,
    truth: Truth,
    problems: Problems,
    advance: Callable[[int], None] = lambda images: None,
) -> Found:
    """Check and count every file; problems are noted, never raised.

    Args:
        package: the submission.
        claims: its manifest.
        truth: the benchmark.
        problems: noted here: AF003 to AF014.
        advance: told how many images were just counted.
    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    found = Found(refused=set(package.refused))
    walk = _Walk(claims, truth, problems, found, advance)
    try:
        for member in package.walk():
            if member.path != MANIFEST:
                try:
                    walk.visit(member)
                except Refused as refused:
                    problems.add(refused.code, member.path, refused.what)
                    found.refused.add(member.path)
    except Refused as refused:
        problems.add(refused.code, "the archive", refused.what)
    if claims.files is not None:
        absent = claims.files.keys() - package.names | claims.files.keys() & {MANIFEST}
        problems.extend("AF014", ((path, "is listed in files_sha256 but not there") for path in absent))
    return found


@dataclass(frozen=True)
class _Walk:
    claims: Claims
    truth: Truth
    problems: Problems
    found: Found
    advance: Callable[[int], None]

    def visit(self, member: Member) -> None:
        """Check one file.

        Raises:
            Refused: if it cannot be taken.
        """
        path = member.path
        if self.claims.files is not None and path not in self.claims.files:
            self.problems.add("AF014", path, "is not listed in files_sha256")
        if path.lower().endswith(_HDF5_SUFFIXES):
            raise Refused("AF013", "external storage can read local files; send PNG")
        if path.lower().endswith(arrays.SUFFIXES):
            for code, what in arrays.refusals(path, member.read(arrays.LARGEST)):
                self.problems.add(code, path, what)
            return
        place = place_of(path)
        if place is None:
            raise Refused("AF003", "has no place in a submission")
        self._check_cell(place.cell)
        if place.kind == "table":
            self._table(member, place.cell)
            return
        shape = self._shape(place.cell, place.sample_id)
        if place.kind == "mask":
            self._claim(place.cell, place.sample_id)
            self._count(place.cell, place.sample_id, self._read(member, largest_png(shape)))
        else:
            self._rank(place.cell, place.sample_id, self._read(member, largest_png(shape)))

    def _read(self, member: Member, limit: int) -> bytes:
        data = member.read(limit)
        self.found.hashes[member.path] = hashlib.sha256(data).hexdigest()
        wanted = (self.claims.files or {}).get(member.path)
        if isinstance(wanted, str) and wanted != self.found.hashes[member.path]:
            self.problems.add("AF014", member.path, "has another sha256 than files_sha256 says")
        if data.startswith(HDF5):
            raise Refused("AF013", "is HDF5 by another name; send PNG")
        return data

    def _check_cell(self, cell: Cell) -> None:
        if cell.localizer not in self.truth.weights:
            raise Refused("AF003", f"localizer '{cell.localizer}' attacked nothing in this benchmark")
        if cell.config not in self.truth.facts:
            raise Refused("AF003", f"config '{cell.config}' is not in this benchmark")
        if cell not in self.truth.cells:
            raise Refused("AF003", f"the benchmark has no {cell}")
        if cell.localizer not in self.claims.localizers or cell.config not in self.claims.configs:
            raise Refused("AF003", f"{MANIFEST} names no localizer and config of {cell}")
        if not self.claims.wants(cell):
            raise Refused("AF003", f"{MANIFEST} has no hash of {cell.config} on {cell.source}, added later")

    def _shape(self, cell: Cell, sample_id: str) -> tuple[int, int]:
        if sample_id not in self.truth.cells[cell]:
            raise Refused("AF003", f"sample '{sample_id}' is not in {cell.source}/{cell.config}")
        return self.truth.shapes[cell.source, sample_id]

    def _table(self, member: Member, cell: Cell) -> None:
        samples = self.truth.cells[cell]
        sizes = [largest_png(self.truth.shapes[cell.source, one]) for one in samples]
        data = self._read(member, sum(sizes) + 1_000_000)
        for sample_id, png in read_parquet(
            data, most_rows=len(samples) + 1000, largest=max(sizes, default=0)
        ):
            try:
                self._shape(cell, sample_id)
                self._claim(cell, sample_id)
                self._count(cell, sample_id, png)
            except Refused as refused:
                self.problems.add(refused.code, f"{member.path}: {sample_id}", refused.what)
                self.found.refused.add(mask_path(cell, sample_id))

    def _claim(self, cell: Cell, sample_id: str) -> None:
        """Take a place before its mask is read: a second one is a double, even if the first is broken."""
        if (cell, sample_id) in self.found.claimed:
            raise Refused("AF005", f"sample '{sample_id}' of {cell} is there twice")
        self.found.claimed.add((cell, sample_id))

    def _count(self, cell: Cell, sample_id: str, data: bytes) -> None:
        mask = read_mask(data, self.truth.shapes[cell.source, sample_id])
        counts = count_pixels(mask, self.truth.masks.read(cell.source, sample_id))
        self.found.counts.setdefault(cell, {})[sample_id] = counts
        self._note_oddities(f"{cell}/{sample_id}", counts)
        self.advance(1)

    def _note_oddities(self, where: str, counts: Counts) -> None:
        tp, fp, fn, tn = counts
        if tp + fp == 0 or fn + tn == 0:
            self.found.odd.add("constant", where, "one value everywhere")
        elif fp == fn == 0:
            self.found.odd.add("copy", where, "the truth, pixel by pixel")

    def _rank(self, cell: Cell, sample_id: str, data: bytes) -> None:
        levels = read_probability(data, self.truth.shapes[cell.source, sample_id])
        truth = self.truth.masks.read(cell.source, sample_id)
        ranked = self.found.ranked.setdefault(cell, {})
        ranked[sample_id] = Ranked(float(auc(levels, truth)), float(f1_best(levels, truth)))


def note_missing(found: Found, claims: Claims, truth: Truth, problems: Problems) -> None:
    """AF004 for every sample of the named localizers whose mask was not decoded, unless it was refused with another code.

    Authentic images may be left out as a whole.
    """
    for cell in wanted_cells(claims, truth):
        there = found.counts.get(cell, {})
        if cell.config == AUTHENTIC and not there:
            continue
        problems.extend(
            "AF004",
            (
                (f"{cell}/{one}", "has no prediction")
                for one in truth.cells[cell]
                if one not in there and mask_path(cell, one) not in found.refused
            ),
        )


def note_baselines(found: Found, truth: Truth) -> None:
    """Whole cells that are the undefended localizer's own masks, as far as its counts can tell."""
    for cell, counts in found.counts.items():
        baselines = truth.cells[cell]
        if counts and all(_is_baseline(one, baselines[name]) for name, one in counts.items()):
            found.odd.add("baseline", str(cell), "all masks score exactly as without a defence")


def _is_baseline(counts: Counts, baseline: Baseline) -> bool:
    if baseline.counts is not None:
        return counts == baseline.counts
    mine = f1(counts)
    return mine == baseline.f1_undefended or (math.isnan(mine) and math.isnan(baseline.f1_undefended))
