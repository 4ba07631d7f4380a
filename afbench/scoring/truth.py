"""Read from a benchmark what a submission may not state itself: masks, shapes and the undefended localizer's scores."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from afbench.core import AfbenchError, BadSample
from afbench.files import sha256_file
from afbench.images import decode_stored
from afbench.metrics import Counts
from afbench.storage.identity import identity_of
from afbench.storage.manifests import (
    AUTHENTIC,
    CLEAN,
    ORIGINALS,
    TOP,
    Benchmark,
    open_benchmark,
    read_json,
    shards_of,
)
from afbench.storage.shards import read_shards

from .versions import Parts, part_hashes

CACHE_BYTES = 1 << 28
"""Decoded masks held at a time; the others wait as the PNG they are stored as."""
Key: TypeAlias = tuple[str, str]
"""Source and sample id: configs of one source share their samples."""


class Cell(NamedTuple):
    """One localizer on one config of one source."""

    localizer: str
    source: str
    config: str

    def __str__(self) -> str:
        return "/".join(self)


class Baseline(NamedTuple):
    """The undefended localizer on one image; ``counts`` are unknown (None) for originals.

    For images attacked through a defence, only the defended localizer's result is known, not the bare one's: there, what
    it found in the original stands in for ``f1_undefended``.
    """

    f1_original: float
    f1_undefended: float
    counts: Counts | None


@dataclass(frozen=True)
class AttackSetting:
    """The attack of a config: ``phi`` is NaN and ``steps`` 0 where there is none."""

    attack: str
    phi: float
    steps: int


CLEAN_SETTING = AttackSetting("clean", math.nan, 0)


@dataclass
class Masks:
    """True masks, kept as the PNG they are stored as; as many as fit ``CACHE_BYTES`` stay decoded."""

    encoded: Mapping[Key, bytes] = field(repr=False)
    decoded: OrderedDict[Key, npt.NDArray[np.bool_]] = field(repr=False, default_factory=OrderedDict)
    decoded_bytes: int = 0

    def read(self, source: str, sample_id: str) -> npt.NDArray[np.bool_]:
        """Return the true mask ``(H, W)``, True where forged.

        Raises:
            AfbenchError: if the benchmark's mask is damaged.
        """
        key = source, sample_id
        if key in self.decoded:
            self.decoded.move_to_end(key)
            return self.decoded[key]
        try:
            mask: npt.NDArray[np.bool_] = decode_stored(self.encoded[key]) > 127
        except BadSample as problem:
            raise AfbenchError(f"the benchmark's mask of {sample_id} is damaged ({problem})") from None
        self.decoded[key] = mask
        self.decoded_bytes += mask.size
        # the mask just decoded stays, however large
        while self.decoded_bytes > CACHE_BYTES and len(self.decoded) > 1:
            self.decoded_bytes -= self.decoded.popitem(last=False)[1].size
        return mask


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A benchmark opened for scoring; ``cells`` hold the baselines of their samples by id, ``parts`` the hashes of its configs.

    ``localizers`` describe each localizer by name.
    """

    name: str
    version: str
    manifest_sha256: str
    weights: Mapping[str, str]
    untrained: frozenset[str]
    localizers: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, AttackSetting]
    cells: Mapping[Cell, Mapping[str, Baseline]]
    shapes: Mapping[Key, tuple[int, int]]
    masks: Masks
    parts: Parts
    benchmark: Benchmark = field(repr=False)


def dataset_identity(folder: Path, benchmark: Benchmark) -> dict[str, str]:
    """Return ``dataset`` of a submission's manifest: the hash of MANIFEST.json, which changes with every config added."""
    digest = sha256_file(folder / TOP)
    return {
        "name": "+".join(benchmark.configs["clean"].splits),
        "version": digest[:12],
        "manifest_sha256": digest,
    }


def open_truth(folder: Path) -> Truth:
    """Read masks, shapes and baselines of a benchmark; images are not read.

    Raises:
        UsageError: if the folder is no benchmark.
        AfbenchError: if it is damaged, or holds two networks under one name.
    """
    benchmark = open_benchmark(folder)
    require_listed_manifests(benchmark)
    try:
        return _open(benchmark)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise AfbenchError(
            f"'{folder}' is damaged ({type(error).__name__}: {error}); see `afbench verify`"
        ) from None


def _open(benchmark: Benchmark) -> Truth:
    shapes, encoded, ids = _originals(benchmark)
    cells: dict[Cell, dict[str, Baseline]] = {}
    for name, manifest in benchmark.attacked.items():
        localizer = manifest.localizer_name
        for source in manifest.splits:
            cells[Cell(localizer, source, name)] = _baselines(benchmark, name, source)
    undefended = _undefended(cells)
    for localizer in sorted({cell.localizer for cell in cells}):
        for (config, source), samples in ids.items():
            f1_by_sample = undefended.get((localizer, source), {})
            cells[Cell(localizer, source, config)] = {
                sample_id: Baseline(
                    f1_by_sample.get(sample_id, math.nan), f1_by_sample.get(sample_id, math.nan), None
                )
                for sample_id in samples
            }
    identity = dataset_identity(benchmark.folder, benchmark)
    return Truth(
        **identity,
        weights=_weights(benchmark),
        untrained=frozenset(
            manifest.localizer_name
            for manifest in benchmark.attacked.values()
            if manifest.provenance["localizer"]["untrained"]
        ),
        localizers={
            manifest.localizer_name: identity_of(manifest.provenance)
            for manifest in benchmark.attacked.values()
        },
        settings={
            **dict.fromkeys(ORIGINALS, CLEAN_SETTING),
            **{name: _attack_setting(manifest.provenance) for name, manifest in benchmark.attacked.items()},
        },
        cells=dict(sorted(cells.items())),
        shapes=shapes,
        masks=Masks(encoded),
        parts=part_hashes(benchmark),
        benchmark=benchmark,
    )


def use_bare_baselines(truth: Truth, localizer: str) -> Truth:
    """Give a localizer that was attacked together with its defence the baselines of the bare localizer.

    Its rows record what localizer and defence together find in the originals, but RP divides by what the bare localizer finds
    there. That is the localizer with the longest name that this one's begins with: ``reference`` of ``reference_jpeg``.

    Raises:
        AfbenchError: if the benchmark does not hold that.
    """
    if truth.localizers[localizer]["through_defence"]:
        return truth
    bare = max(
        (
            name
            for name, identity in truth.localizers.items()
            if localizer.startswith(f"{name}_") and not identity["through_defence"]
        ),
        key=len,
        default=None,
    )
    rebased: dict[Cell, dict[str, Baseline]] = {}
    for cell, samples in truth.cells.items():
        if cell.localizer == localizer and cell.config != AUTHENTIC:
            originals = truth.cells.get(Cell(bare or "", cell.source, CLEAN), {})
            figures = {name: originals[name].f1_original for name in samples if name in originals}
            if len(figures) < len(samples) or any(map(math.isnan, figures.values())):
                raise AfbenchError(
                    "an adaptive RP is over the F1 of the bare localizer on the originals, and "
                    f"'{truth.benchmark.folder}' attacked '{localizer}' as a localizer of its own: attack it with "
                    "--through-defence, or add a config of the bare localizer, on the same samples and called what "
                    f"'{localizer}' begins with"
                )
            rebased[cell] = {name: Baseline(figure, figure, None) for name, figure in figures.items()}
    return replace(truth, cells={**truth.cells, **rebased})


def _originals(
    benchmark: Benchmark,
) -> tuple[dict[Key, tuple[int, int]], dict[Key, bytes], dict[tuple[str, str], list[str]]]:
    """Read the shapes and masks of the originals, and their ids by config and source."""
    shapes, encoded = {}, {}
    ids: dict[tuple[str, str], list[str]] = {}
    for config in (name for name in ORIGINALS if name in benchmark.configs):
        for source in benchmark.configs[config].splits:
            sample_ids = ids.setdefault((config, source), [])
            for row in _rows(benchmark, config, source, ("sample_id", "mask", "height", "width")):
                key = source, str(row["sample_id"])
                if key in shapes:
                    raise ValueError(f"sample {key[1]} of {source} is there twice")
                shapes[key], encoded[key] = (int(row["height"]), int(row["width"])), row["mask"]
                sample_ids.append(key[1])
    return shapes, encoded, ids


def require_listed_manifests(benchmark: Benchmark) -> None:
    """Refuse manifests that are not the ones that MANIFEST.json hashes: baselines come from them.

    Raises:
        AfbenchError: with the first that is not.
    """
    listing = read_json(benchmark.folder / TOP).get("files")
    for name in benchmark.configs:
        path = f"manifests/{name}.json"
        stated = listing.get(path) if isinstance(listing, dict) else None
        if not isinstance(stated, dict) or stated.get("sha256") != sha256_file(benchmark.folder / path):
            raise AfbenchError(
                f"'{benchmark.folder}' is damaged: {path} is not what {TOP} lists; see `afbench verify`"
            )


def _rows(
    benchmark: Benchmark, config: str, source: str, columns: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    return read_shards(benchmark.folder, shards_of(benchmark.configs[config], source), columns)


def _baselines(benchmark: Benchmark, config: str, source: str) -> dict[str, Baseline]:
    if "defence" in benchmark.configs[config].provenance:
        return {
            str(row["sample_id"]): Baseline(_number(row["f1_clean"]), _number(row["f1_clean"]), None)
            for row in _rows(benchmark, config, source, ("sample_id", "f1_clean"))
        }
    return {
        str(row["sample_id"]): Baseline(
            _number(row["f1_clean"]),
            _number(row["f1_adv"]),
            Counts(*(int(row[name]) for name in Counts._fields)),
        )
        for row in _rows(benchmark, config, source, ("sample_id", "f1_clean", "f1_adv", *Counts._fields))
    }


def _undefended(cells: Mapping[Cell, Mapping[str, Baseline]]) -> dict[tuple[str, str], dict[str, float]]:
    """Return F1 on the originals: every attacked config repeats it, so the first that holds a sample decides."""
    f1_by_part: dict[tuple[str, str], dict[str, float]] = {}
    for cell in sorted(cells):
        f1_by_sample = f1_by_part.setdefault((cell.localizer, cell.source), {})
        for sample_id, baseline in cells[cell].items():
            f1_by_sample.setdefault(sample_id, baseline.f1_original)
    return f1_by_part


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _attack_setting(provenance: Mapping[str, Any]) -> AttackSetting:
    phi = math.nan if provenance["phi"] is None else float(Fraction(provenance["phi"]))
    return AttackSetting(
        str(provenance["attack"]), phi, 0 if provenance["attack"] == "noise" else int(provenance["steps"])
    )


def _weights(benchmark: Benchmark) -> dict[str, str]:
    weights_by_name: dict[str, str] = {}
    defences: dict[str, Any] = {}
    for manifest in benchmark.attacked.values():
        localizer, defence = manifest.provenance["localizer"], manifest.provenance.get("defence", {})
        name, weights = str(localizer["name"]), str(localizer["weights_sha256"])
        behind = [defence.get(key) for key in ("name", "params", "weights_sha256")]
        if (
            weights_by_name.setdefault(name, weights) != weights
            or defences.setdefault(name, behind) != behind
        ):
            raise AfbenchError(
                f"'{benchmark.folder}' holds two networks as '{name}' (`afbench verify` names the configs); part them with "
                "`afbench export --to parquet --config NAME`"
            )
    return weights_by_name
