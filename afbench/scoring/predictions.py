"""Read the files of a submission once: check each, count its pixels against the truth, keep what the score needs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from afbench.metrics import Counts, auc, count_pixels, f1, f1_best, top_mean
from afbench.storage.manifests import AUTHENTIC

from . import arrays
from .mask_png import largest_png, read_mask, read_probability
from .package import HDF5, MANIFEST, Member, Package
from .parquet_masks import read_parquet
from .problems import Problems, Refusal
from .submission import Claims
from .truth import Baseline, Cell, Truth

_HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


class PredictionPath(NamedTuple):
    """The meaning of a path: ``kind`` is mask, probability or table; ``sample_id`` is empty for a table of masks."""

    kind: str
    cell: Cell
    sample_id: str


class MapScores(NamedTuple):
    """The scores of a probability map; NaN where undefined."""

    auc: float
    f1_best: float


class ImageScores(NamedTuple):
    """Scores of a whole image in [0, 1], the higher the more likely forged; NaN where unknown.

    The highest probability, the mean of the top 1 % (``metrics.top_mean``), and the localizer's own.
    """

    image_max: float
    image_top1: float
    image_own: float


@dataclass(kw_only=True)
class PredictionTally:
    """What reading a submission yields: pixel counts, map and image scores by cell and sample, oddities, and hashes by path.

    ``claimed`` are all masks of the submission, decoded or not; ``refused_paths`` the masks that a problem was noted for.
    """

    counts: dict[Cell, dict[str, Counts]] = field(default_factory=dict)
    claimed: set[tuple[Cell, str]] = field(default_factory=set)
    map_scores: dict[Cell, dict[str, MapScores]] = field(default_factory=dict)
    image_scores: dict[Cell, dict[str, ImageScores]] = field(default_factory=dict)
    oddities: Problems = field(default_factory=Problems)
    hashes: dict[str, str] = field(default_factory=dict)
    refused_paths: set[str] = field(default_factory=set)

    def content_sha256(self) -> str:
        """Hash all predictions as one: paths and hashes in order of paths, so that packing does not matter."""
        lines = (
            f"{digest}  {path}\n"
            for path, digest in sorted(self.hashes.items())
            if path.startswith("predictions/")
        )
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def parse_path(path: str) -> PredictionPath | None:
    """Read a path by the layout of a submission; None if it has no place in it."""
    parts = path.split("/")
    if len(parts) == 5 and path.endswith(".png") and parts[0] in ("predictions", "probs"):
        kind = "mask" if parts[0] == "predictions" else "probability"
        return PredictionPath(kind, Cell(*parts[1:4]), parts[4].removesuffix(".png"))
    if len(parts) == 4 and path.endswith(".parquet") and parts[0] == "predictions":
        return PredictionPath("table", Cell(parts[1], parts[2], parts[3].removesuffix(".parquet")), "")
    return None


def mask_path(cell: Cell, sample_id: str) -> str:
    """Return the path that the PNG of a mask has in a submission."""
    return f"predictions/{cell}/{sample_id}.png"


def is_sample(path: str, truth: Truth) -> bool:
    """Return whether a path belongs to a sample of the benchmark."""
    prediction_path = parse_path(path)
    return prediction_path is not None and prediction_path.sample_id in truth.cells.get(
        prediction_path.cell, ()
    )


def expected_cells(claims: Claims, truth: Truth) -> list[Cell]:
    """Return the cells of a submission's localizers: all, or those that the benchmark had when it was made."""
    return [cell for cell in truth.cells if cell.localizer in claims.localizers and claims.covers(cell)]


def walk_predictions(
    package: Package,
    claims: Claims,
    truth: Truth,
    problems: Problems,
    advance: Callable[[int], None] = lambda images: None,
) -> PredictionTally:
    """Check and count every file; problems are noted, never raised.

    Args:
        package: the submission.
        claims: its manifest.
        truth: the benchmark.
        problems: noted here: AF003 to AF014.
        advance: called with the number of images just counted.
    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    tally = PredictionTally(refused_paths=set(package.refused_names))
    walk = _Walk(claims, truth, problems, tally, advance)
    try:
        for member in package.walk():
            if member.path != MANIFEST:
                try:
                    walk.visit(member)
                except Refusal as refusal:
                    problems.add(refusal.code, member.path, refusal.message)
                    tally.refused_paths.add(member.path)
    except Refusal as refusal:
        problems.add(refusal.code, "the archive", refusal.message)
    if claims.files is not None:
        # the manifest cannot hold its own hash
        absent = claims.files.keys() - package.names | claims.files.keys() & {MANIFEST}
        problems.extend("AF014", ((path, "is listed in files_sha256 but not there") for path in absent))
    return tally


@dataclass(frozen=True)
class _Walk:
    claims: Claims
    truth: Truth
    problems: Problems
    tally: PredictionTally
    advance: Callable[[int], None]

    def visit(self, member: Member) -> None:
        """Check one file.

        Raises:
            Refusal: if it cannot be taken.
        """
        path = member.path
        if self.claims.files is not None and path not in self.claims.files:
            self.problems.add("AF014", path, "is not listed in files_sha256")
        if path.lower().endswith(_HDF5_SUFFIXES):
            raise Refusal("AF013", "external storage can read local files; send PNG")
        if path.lower().endswith(arrays.SUFFIXES):
            for code, message in arrays.refusals(path, member.read(arrays.LARGEST)):
                self.problems.add(code, path, message)
            return
        prediction_path = parse_path(path)
        if prediction_path is None:
            raise Refusal("AF003", "has no place in a submission")
        self._check_cell(prediction_path.cell)
        if prediction_path.kind == "table":
            self._table(member, prediction_path.cell)
            return
        shape = self._shape(prediction_path.cell, prediction_path.sample_id)
        if prediction_path.kind == "mask":
            self._claim(prediction_path.cell, prediction_path.sample_id)
            self._count(
                prediction_path.cell, prediction_path.sample_id, self._read(member, largest_png(shape))
            )
        else:
            self._rank(
                prediction_path.cell, prediction_path.sample_id, self._read(member, largest_png(shape))
            )

    def _read(self, member: Member, limit: int) -> bytes:
        data = member.read(limit)
        self.tally.hashes[member.path] = hashlib.sha256(data).hexdigest()
        expected = (self.claims.files or {}).get(member.path)
        if isinstance(expected, str) and expected != self.tally.hashes[member.path]:
            self.problems.add("AF014", member.path, "has another sha256 than files_sha256 says")
        if data.startswith(HDF5):
            raise Refusal("AF013", "is HDF5 by another name; send PNG")
        return data

    def _check_cell(self, cell: Cell) -> None:
        if cell.localizer not in self.truth.weights:
            raise Refusal("AF003", f"localizer '{cell.localizer}' attacked nothing in this benchmark")
        if cell.config not in self.truth.settings:
            raise Refusal("AF003", f"config '{cell.config}' is not in this benchmark")
        if cell not in self.truth.cells:
            raise Refusal("AF003", f"the benchmark has no {cell}")
        if cell.localizer not in self.claims.localizers or cell.config not in self.claims.configs:
            raise Refusal("AF003", f"{MANIFEST} names no localizer and config of {cell}")
        if not self.claims.covers(cell):
            raise Refusal("AF003", f"{MANIFEST} has no hash of {cell.config} on {cell.source}, added later")

    def _shape(self, cell: Cell, sample_id: str) -> tuple[int, int]:
        if sample_id not in self.truth.cells[cell]:
            raise Refusal("AF003", f"sample '{sample_id}' is not in {cell.source}/{cell.config}")
        return self.truth.shapes[cell.source, sample_id]

    def _table(self, member: Member, cell: Cell) -> None:
        samples = self.truth.cells[cell]
        sizes = [largest_png(self.truth.shapes[cell.source, sample_id]) for sample_id in samples]
        data = self._read(member, sum(sizes) + 1_000_000)
        for sample_id, png in read_parquet(data, max_rows=len(samples) + 1000, largest=max(sizes, default=0)):
            try:
                self._shape(cell, sample_id)
                self._claim(cell, sample_id)
                self._count(cell, sample_id, png)
            except Refusal as refusal:
                self.problems.add(refusal.code, f"{member.path}: {sample_id}", refusal.message)
                self.tally.refused_paths.add(mask_path(cell, sample_id))

    def _claim(self, cell: Cell, sample_id: str) -> None:
        """Record a mask before it is read: a second one is a double, even if the first is broken."""
        if (cell, sample_id) in self.tally.claimed:
            raise Refusal("AF005", f"sample '{sample_id}' of {cell} is there twice")
        self.tally.claimed.add((cell, sample_id))

    def _count(self, cell: Cell, sample_id: str, data: bytes) -> None:
        mask = read_mask(data, self.truth.shapes[cell.source, sample_id])
        counts = count_pixels(mask, self.truth.masks.read(cell.source, sample_id))
        self.tally.counts.setdefault(cell, {})[sample_id] = counts
        self._note_oddities(f"{cell}/{sample_id}", counts)
        self.advance(1)

    def _note_oddities(self, location: str, counts: Counts) -> None:
        tp, fp, fn, tn = counts
        if tp + fp == 0 or fn + tn == 0:
            self.tally.oddities.add("constant", location, "one value everywhere")
        elif fp == fn == 0:
            self.tally.oddities.add("copy", location, "the truth, pixel by pixel")

    def _rank(self, cell: Cell, sample_id: str, data: bytes) -> None:
        levels = read_probability(data, self.truth.shapes[cell.source, sample_id])
        truth = self.truth.masks.read(cell.source, sample_id)
        map_scores = self.tally.map_scores.setdefault(cell, {})
        map_scores[sample_id] = MapScores(float(auc(levels, truth)), float(f1_best(levels, truth)))
        image_scores = self.tally.image_scores.setdefault(cell, {})
        image_scores[sample_id] = ImageScores(int(levels.max()) / 255, top_mean(levels) / 255, math.nan)


def note_missing(tally: PredictionTally, claims: Claims, truth: Truth, problems: Problems) -> None:
    """Note AF004 for every sample of the named localizers without a mask, unless another code refused its mask.

    Authentic images may be left out as a whole.
    """
    for cell in expected_cells(claims, truth):
        counts = tally.counts.get(cell, {})
        if cell.config == AUTHENTIC and not counts:
            continue
        problems.extend(
            "AF004",
            (
                (f"{cell}/{sample_id}", "has no prediction")
                for sample_id in truth.cells[cell]
                if sample_id not in counts and mask_path(cell, sample_id) not in tally.refused_paths
            ),
        )


def note_baselines(tally: PredictionTally, truth: Truth) -> None:
    """Note cells whose masks all have the counts of the undefended localizer's masks."""
    for cell, counts in tally.counts.items():
        baselines = truth.cells[cell]
        if counts and all(
            _is_baseline(sample_counts, baselines[name]) for name, sample_counts in counts.items()
        ):
            tally.oddities.add("baseline", str(cell), "all masks score exactly as without a defence")


def _is_baseline(counts: Counts, baseline: Baseline) -> bool:
    # benchmarks store no counts of originals, so their F1 has to do
    if baseline.counts is not None:
        return counts == baseline.counts
    defended = f1(counts)
    return defended == baseline.f1_undefended or (math.isnan(defended) and math.isnan(baseline.f1_undefended))
