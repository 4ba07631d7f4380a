"""Decode every stored image and compute its row's figures again, except those that need the localizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored, pixel_sha256
from afbench.metrics import Counts, distance, f1, iou
from afbench.plans import max_levels

from .manifests import AUTHENTIC, CLEAN, ORIGINALS, Benchmark
from .problem import Problem
from .shards import read_rows
from .summary import summarise

_SLACK = 1e-6
"""Of figures that another version of a library may compute in another order."""


class _StoredOriginal(NamedTuple):
    encoded: bytes
    mask_sha256: str


class _Stored(NamedTuple):
    path: str
    row: dict[str, Any]
    image: ByteImage
    mask: ByteImage


def check_pixels(benchmark: Benchmark, advance: Callable[[int], None]) -> Iterator[Problem]:
    """Check every image and mask, the L-inf bound in whole levels, and the figures of rows and manifests."""
    for config in (stored for stored in ORIGINALS if stored in benchmark.configs):
        for split in benchmark.configs[config].splits:
            originals = {}
            for stored in _decoded(benchmark, config, split, advance):
                if isinstance(stored, Problem):
                    yield stored
                    continue
                # encoded, for the decoded originals of a whole source may not fit into memory
                originals[stored.row["sample_id"]] = _StoredOriginal(
                    stored.row["image"], stored.row["mask_sha256"]
                )
                yield from _named(stored, _check_hashes(stored))
                if config == AUTHENTIC and stored.mask.any():
                    yield Problem(stored.path, f"{stored.row['sample_id']}: an authentic image has a mask")
            for name in benchmark.attacked if config == CLEAN else ():
                if split in benchmark.configs[name].splits:
                    yield from _check_config(benchmark, name, split, originals, advance)


def _decoded(
    benchmark: Benchmark, config: str, split: str, advance: Callable[[int], None]
) -> Iterator[_Stored | Problem]:
    earlier_ids: set[str] = set()
    for shard in benchmark.configs[config].splits[split].shards:
        path, ids = shard.path, []
        try:
            for row in read_rows(benchmark.folder, [path]):
                advance(1)
                ids.append(row["sample_id"])
                try:
                    yield _Stored(path, row, decode_stored(row["image"]), decode_stored(row["mask"]))
                except BadSample as problem:
                    yield Problem(path, f"{row['sample_id']}: {problem}")
        except AfbenchError as error:
            yield Problem(path, str(error))
            continue
        if (shard.rows, shard.first_id, shard.last_id) != (
            len(ids),
            *(ids[:1] + ids[-1:] or (None, None)),
        ):
            yield Problem(path, "holds other samples than its manifest says")
        # over all shards: a sample may be once in each of two
        if len(earlier_ids | set(ids)) != len(earlier_ids) + len(ids):
            yield Problem(path, "holds a sample twice")
        earlier_ids.update(ids)


def _named(stored: _Stored, messages: Iterator[str]) -> Iterator[Problem]:
    for message in messages:
        yield Problem(stored.path, f"{stored.row['sample_id']}: {message}")


def _check_hashes(stored: _Stored) -> Iterator[str]:
    for name, pixels in (("image", stored.image), ("mask", stored.mask)):
        if pixel_sha256(pixels) != stored.row[f"{name}_sha256"]:
            yield f"decoded {name} does not match its sha256"
    if (
        stored.image.shape != (stored.row["height"], stored.row["width"], 3)
        or stored.mask.shape != stored.image.shape[:2]
    ):
        yield "image and mask do not have the stated size"
    elif not np.isin(stored.mask, (0, 255)).all():
        yield "the mask holds other levels than 0 and 255"


def _check_config(
    benchmark: Benchmark,
    name: str,
    split: str,
    originals: Mapping[str, _StoredOriginal],
    advance: Callable[[int], None],
) -> Iterator[Problem]:
    manifest = benchmark.configs[name]
    rows = []
    for stored in _decoded(benchmark, name, split, advance):
        if isinstance(stored, Problem):
            yield stored
            continue
        rows.append({key: value for key, value in stored.row.items() if key not in ("image", "mask")})
        yield from _named(stored, _check_hashes(stored))
        yield from _named(stored, _check_figures(stored.row, stored.mask))
        yield from _named(stored, _check_provenance(stored.row, manifest.provenance, split))
        if stored.row["sample_id"] not in originals:
            yield Problem(stored.path, f"{stored.row['sample_id']}: its original is not in config clean")
        else:
            phi = manifest.provenance["phi"]
            # as a fraction: a float might round to another level
            bound = max_levels(None if phi is None else Fraction(phi))
            region = manifest.provenance["params"].get("where")
            yield from _named(
                stored, _check_distance(stored, originals[stored.row["sample_id"]], bound, region)
            )
    summary = manifest.splits[split].summary or {}
    for key, value in summarise(rows).items():
        if not _same(summary.get(key), value):
            yield Problem(
                f"manifests/{name}.json", f"says {key} {summary.get(key)} of {split}; its rows say {value}"
            )


def _check_provenance(row: Mapping[str, Any], provenance: Mapping[str, Any], split: str) -> Iterator[str]:
    """Compare the provenance that a row carries with that of its manifest."""
    phi = None if provenance["phi"] is None else float(Fraction(provenance["phi"]))
    expected = (provenance["localizer"]["name"], provenance["attack"], phi, provenance["steps"], split)
    actual = tuple(row[key] for key in ("localizer", "attack", "phi", "steps", "source"))
    if actual != expected:
        yield f"says it is {actual}, its manifest {expected}"


def _check_figures(row: Mapping[str, Any], mask: ByteImage) -> Iterator[str]:
    counts = Counts(*(int(row[key]) for key in ("tp", "fp", "fn", "tn")))
    forged = int((mask > 127).sum())
    if sum(counts) != mask.size or counts.tp + counts.fn != forged or min(counts) < 0:
        yield "tp, fp, fn and tn are not of its mask"
    for key, value in (("f1_adv", f1(counts)), ("iou_adv", iou(counts))):
        if not _same(row[key], value):
            yield f"{key} is {row[key]}, its counts say {value}"


def _check_distance(
    stored: _Stored, original: _StoredOriginal, bound: int | None, region: str | None
) -> Iterator[str]:
    row, pixels = stored.row, decode_stored(original.encoded)
    if pixel_sha256(pixels) != row["original_sha256"] or original.mask_sha256 != row["mask_sha256"]:
        yield "made from another original or mask than config clean holds"
        return
    if stored.image.shape != pixels.shape:
        return  # said already: not of the stated size
    distances = distance(stored.image, pixels)
    if distances.linf != row["linf"] or (bound is not None and distances.linf > bound):
        yield f"differs by up to {distances.linf} levels; stated {row['linf']}, bound {bound}"
    if region is not None:
        is_outside = (stored.mask > 127) != (region == "forged")
        if changed := int((stored.image != pixels).any(axis=2)[is_outside].sum()):
            yield f"differs from its original in {changed} pixels outside of where={region}"
    for key in ("l2", "psnr", "ssim", "changed"):
        value = getattr(distances, key)
        if not _same(row[key], value):
            yield f"{key} is {row[key]}, its pixels say {value}"


def _same(stored: Any, computed: Any) -> bool:
    """Return whether two figures are equal up to rounding; what is not finite is stored as nothing."""
    if computed is None or not math.isfinite(computed):
        return stored is None
    return stored is not None and math.isclose(stored, computed, rel_tol=_SLACK, abs_tol=_SLACK)
