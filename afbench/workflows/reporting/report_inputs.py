"""Read what a report is drawn from: benchmarks, scores and evaluations, as sides of localizers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from afbench.core import AfbenchError, UsageError
from afbench.defences.names import NONE, TRANSFORMS, transform_label
from afbench.schemas import schema_problem
from afbench.scoring.image_level import ALL_SOURCES, image_level, pixel_thresholds
from afbench.scoring.score_tables import COLUMNS
from afbench.scoring.stored_scores import SCORE, StoredScore, read_scores
from afbench.storage.agreement import bare_name
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.identity import identity_of
from afbench.storage.manifests import TOP, Benchmark, open_benchmark, read_json, shards_of
from afbench.storage.shards import read_shards

from ..attack_records import ADAPTIVE, OBLIVIOUS, Record, Side
from ..request import config_localizer

EVALUATION = "evaluation.json"
_COUNTS = ("tp", "fp", "fn", "tn")


class LocalizerSide(NamedTuple):
    """The images of one localizer behind one defence, and the folder that they are from."""

    localizer: str
    network: Mapping[str, Any]
    side: Side
    folder: Path


class EvaluationInput(NamedTuple):
    """The records of an evaluation, those after posting, of transfer and of whole images apart, and the folder that they are from."""

    folder: Path
    figures: Sequence[Record]
    after: Sequence[Record]
    transfer: Sequence[Record] = ()
    image_level: Sequence[Record] = ()


@dataclass(frozen=True)
class ReportInputs:
    """What the folders of a report hold; ``sides`` are the images of benchmarks and scores, ``image_level`` the records of whole
    images, of evaluations and scores.
    """

    benchmarks: Sequence[Benchmark] = ()
    sides: Sequence[LocalizerSide] = ()
    evaluations: Sequence[EvaluationInput] = ()
    folders: Sequence[Path] = field(default_factory=list)
    image_level: Sequence[Record] = ()

    @property
    def after(self) -> list[Record]:
        """Return the records after posting of all evaluations."""
        return [record for evaluation in self.evaluations for record in evaluation.after]


def read_report_inputs(folders: Sequence[Path]) -> ReportInputs:
    """Read benchmarks, scores and evaluations; no image is decoded.

    Raises:
        UsageError: if a folder is none of them, or two networks have one name.
        AfbenchError: if a folder is damaged.
    """
    benchmarks, scores, evaluations = [], [], []
    unique_folders = list({folder.resolve(): folder for folder in folders}.values())
    for folder in unique_folders:
        if (folder / TOP).is_file():
            benchmarks.append(open_benchmark(folder))
        elif (folder / SCORE).is_file():
            scores.append(folder)
        elif (folder / EVALUATION).is_file():
            evaluation = read_evaluation(folder / EVALUATION)
            parts = (evaluation.get(name, []) for name in ("figures", "after", "transfer", "image_level"))
            evaluations.append(EvaluationInput(folder, *parts))
        else:
            raise UsageError(
                f"'{folder}' is neither a benchmark ({TOP}) nor a score ({SCORE}) nor an evaluation ({EVALUATION})"
            )
    sides = [side for benchmark in benchmarks for side in benchmark_sides(benchmark)]
    stored_scores = list(read_scores(scores))
    sides += [side for score in stored_scores for side in _score_sides(score)]
    images = [record for evaluation in evaluations for record in evaluation.image_level]
    images += [record for score in stored_scores for record in _score_images(score)]
    _require_one_network(sides, evaluations)
    return ReportInputs(benchmarks, sides, evaluations, unique_folders, _unique_images(images))


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read the JSON that ``afbench evaluate --out`` writes.

    Raises:
        AfbenchError: if it is damaged.
    """
    evaluation = read_json(path)
    try:
        json.dumps(evaluation, allow_nan=False)
    except ValueError:
        raise AfbenchError(f"'{path}' is no evaluation: it holds a number that is none") from None
    if problem := schema_problem("evaluation", evaluation):
        raise AfbenchError(f"'{path}' is no evaluation: {problem}")
    return evaluation


def benchmark_sides(benchmark: Benchmark) -> Iterator[LocalizerSide]:
    """Yield a side for each localizer of a benchmark, bare or attacked through a defence, with F1 as the rows store it.

    What a defence does to originals is not stored: rows of originals are of the bare localizer, so only its side has them.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    manifests: dict[str, list[ConfigManifest]] = {}
    for manifest in benchmark.attacked.values():
        manifests.setdefault(manifest.localizer_name, []).append(manifest)
    for configs in manifests.values():
        provenance = configs[0].provenance
        try:
            rows = [row for manifest in configs for row in _attacked_rows(benchmark, manifest)]
            defence = provenance.get("defence")
            kind = NONE if defence is None else str(defence["name"])
            params = {} if defence is None else dict(defence["params"])
            label = defence_label(kind, params, "" if defence is None else str(defence["weights_sha256"])[:6])
            network, localizer = identity_of(provenance), bare_name(provenance)
        except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
            raise AfbenchError(
                f"'{benchmark.folder}' is damaged ({type(error).__name__}: {error}); see `afbench verify`"
            ) from None
        per_image = pd.DataFrame(rows, columns=COLUMNS)
        side = Side(
            label,
            OBLIVIOUS if defence is None else ADAPTIVE,
            pd.concat([original_rows(per_image), per_image], ignore_index=True)
            if defence is None
            else per_image,
            kind=kind,
            params=params,
            undefended=True,
        )
        yield LocalizerSide(localizer, network, side, benchmark.folder)


def _attacked_rows(benchmark: Benchmark, manifest: ConfigManifest) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a config with the columns of a score's table; ``f1_undefended`` is the F1 that the row stores."""
    provenance = manifest.provenance
    phi = math.nan if provenance["phi"] is None else float(Fraction(provenance["phi"]))
    attack = str(provenance["attack"])
    setting = manifest.config, attack, phi, 0 if attack == "noise" else int(provenance["steps"])
    for source in manifest.splits:
        columns = ("sample_id", "f1_clean", "f1_adv", *_COUNTS)
        for row in read_shards(benchmark.folder, shards_of(manifest, source), columns):
            counts = (int(row[name]) for name in _COUNTS)
            f1 = (_share(row["f1_clean"]), _share(row["f1_adv"]))
            yield (bare_name(provenance), source, *setting, str(row["sample_id"]), *counts, *f1)


def _share(value: float | None) -> float:
    if value is None:
        return math.nan
    if not 0 <= value <= 1:  # NaN lies in no range
        raise ValueError(f"an F1 of {value}")
    return float(value)


def original_rows(per_image: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each original of the attacked rows: its F1 as stored, and the counts of a mask that calls every pixel forged.

    The counts of the predicted mask are not stored; these are what chance reaches, and tell forged images from authentic ones.
    """
    originals = per_image.drop_duplicates(["localizer", "source", "sample_id"])
    return originals.assign(
        config="clean",
        attack="clean",
        phi=math.nan,
        steps=0,
        tp=originals["tp"] + originals["fn"],
        fp=originals["fp"] + originals["tn"],
        fn=0,
        tn=0,
        f1_undefended=originals["f1_original"],
    )


def _score_sides(score: StoredScore) -> Iterator[LocalizerSide]:
    record = score.record
    kind, params = str(record["defence"]["type"]), dict(record["defence"]["params"])
    label = defence_label(kind, params, record["submission_id"])
    for name, per_image in score.per_image.groupby("localizer", sort=True):
        # what was attacked through a defence is called by both
        localizer = str(name).removesuffix(f"_{config_localizer(label)}")
        network = record.get("localizers", {}).get(str(name), {})
        side = Side(
            label, record["attack_knowledge"], per_image[COLUMNS], score.seen, kind=kind, params=params
        )
        yield LocalizerSide(localizer, network, side, score.folder)


def _score_images(score: StoredScore) -> Iterator[Record]:
    """Yield the records of whole images of a score as those of an evaluation, computed from its counts."""
    record = score.record
    label = defence_label(
        str(record["defence"]["type"]), dict(record["defence"]["params"]), record["submission_id"]
    )
    thresholds = pixel_thresholds(record.get("localizers", {}))
    for figures in image_level(score.per_image, thresholds):
        localizer = figures["localizer"].removesuffix(f"_{config_localizer(label)}")
        yield {**figures, "localizer": localizer, "defence": label, "knowledge": record["attack_knowledge"]}


def _unique_images(records: Sequence[Record]) -> list[Record]:
    """Leave out what a second folder repeats, and put what belongs to one localizer and source together."""
    keys = ("localizer", "source", "attack", "score", "defence", "knowledge")
    unique_records: dict[tuple[str, ...], Record] = {}
    for record in records:
        unique_records.setdefault(tuple(record[key] for key in keys), record)
    localizers = [record["localizer"] for record in records]
    return sorted(
        unique_records.values(),
        # stable: attacks and defences keep their order
        key=lambda record: (
            localizers.index(record["localizer"]),
            record["source"] == ALL_SOURCES,
            record["source"],
        ),
    )


def defence_label(kind: str, params: Mapping[str, Any], otherwise: str) -> str:
    """Return what evaluations call a defence; of what was trained, its kind with what ``otherwise`` tells it apart."""
    if kind == NONE:
        return NONE
    transform = TRANSFORMS.get(kind)
    value = params.get(transform.number.name) if transform else None
    if isinstance(value, int | float) and len(params) == 1:
        return transform_label(kind, value)
    return f"{config_localizer(kind)}-{otherwise}" if otherwise else config_localizer(kind)


def _require_one_network(sides: Sequence[LocalizerSide], evaluations: Sequence[EvaluationInput]) -> None:
    """Refuse two networks under one name: their figures would stand in one row."""
    weights_by_name: dict[str, str] = {}
    stated = [(side.localizer, side.network.get("weights_sha256", "")) for side in sides]
    for evaluation in evaluations:
        of_localizers = (*evaluation.figures, *evaluation.after, *evaluation.image_level)
        stated += [(record["localizer"], record["weights_sha256"]) for record in of_localizers]
        stated += [
            (record[role], record[f"{role}_weights_sha256"])
            for record in evaluation.transfer
            for role in ("attacker", "victim")
            if record[role]
        ]
    for localizer, weights in stated:
        if weights and weights_by_name.setdefault(localizer, weights) != weights:
            raise UsageError(
                f"two networks are called '{localizer}' (weights {weights_by_name[localizer][:12]} and {weights[:12]}); "
                "make a report of each"
            )
