"""Decode every stored image and compute again what its row says of it, but for what takes the localizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from afbench.core import AfbenchError, BadSample, ByteImage
from afbench.images import decode_stored, pixel_sha256
from afbench.metrics import Counts, distance, f1, iou
from afbench.plan import max_levels

from .manifests import AUTHENTIC, CLEAN, ORIGINALS, Benchmark
from .problem import Problem
from .shards import read_rows
from .summary import summarise

_SLACK = 1e-6
"""Of figures that another version of a library may compute in another order."""


class _Original(NamedTuple):
    encoded: bytes
    mask_sha256: str


class _Stored(NamedTuple):
    path: str
    row: dict[str, Any]
    image: ByteImage
    mask: ByteImage


def check_pixels(benchmark: Benchmark, advance: Callable[[int], None]) -> Iterator[Problem]:
    """Check every image and mask, the L-inf bound in whole levels, and the figures of rows and manifests."""
    for config in (one for one in ORIGINALS if one in benchmark.configs):
        for split in benchmark.configs[config].splits:
            originals = {}
            for one in _decoded(benchmark, config, split, advance):
                if isinstance(one, Problem):
                    yield one
                    continue
                originals[one.row["sample_id"]] = _Original(one.row["image"], one.row["mask_sha256"])
                yield from _named(one, _check_hashes(one))
                if config == AUTHENTIC and one.mask.any():
                    yield Problem(one.path, f"{one.row['sample_id']}: an authentic image has a mask")
            for name in benchmark.attacked if config == CLEAN else ():
                if split in benchmark.configs[name].splits:
                    yield from _check_config(benchmark, name, split, originals, advance)


def _decoded(
    benchmark: Benchmark, config: str, split: str, advance: Callable[[int], None]
) -> Iterator[_Stored | Problem]:
    seen: set[str] = set()
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
        if len(seen | set(ids)) != len(seen) + len(ids):
            yield Problem(path, "holds a sample twice")
        seen.update(ids)


def _named(one: _Stored, messages: Iterator[str]) -> Iterator[Problem]:
    for message in messages:
        yield Problem(one.path, f"{one.row['sample_id']}: {message}")


def _check_hashes(one: _Stored) -> Iterator[str]:
    for name, pixels in (("image", one.image), ("mask", one.mask)):
        if pixel_sha256(pixels) != one.row[f"{name}_sha256"]:
            yield f"decoded {name} does not match its sha256"
    if one.image.shape != (one.row["height"], one.row["width"], 3) or one.mask.shape != one.image.shape[:2]:
        yield "image and mask do not have the stated size"
    elif not np.isin(one.mask, (0, 255)).all():
        yield "the mask holds other levels than 0 and 255"


def _check_config(
    benchmark: Benchmark,
    name: str,
    split: str,
    originals: Mapping[str, _Original],
    advance: Callable[[int], None],
) -> Iterator[Problem]:
    manifest = benchmark.configs[name]
    rows = []
    for one in _decoded(benchmark, name, split, advance):
        if isinstance(one, Problem):
            yield one
            continue
        rows.append({key: value for key, value in one.row.items() if key not in ("image", "mask")})
        yield from _named(one, _check_hashes(one))
        yield from _named(one, _check_figures(one.row, one.mask))
        yield from _named(one, _check_told(one.row, manifest.provenance, split))
        if one.row["sample_id"] not in originals:
            yield Problem(one.path, f"{one.row['sample_id']}: its original is not in config clean")
        else:
            phi = manifest.provenance["phi"]
            bound = max_levels(None if phi is None else Fraction(phi))
            yield from _named(one, _check_distance(one, originals[one.row["sample_id"]], bound))
    told = manifest.splits[split].summary or {}
    for key, value in summarise(rows).items():
        if not _same(told.get(key), value):
            yield Problem(
                f"manifests/{name}.json", f"says {key} {told.get(key)} of {split}; its rows say {value}"
            )


def _check_told(row: Mapping[str, Any], how: Mapping[str, Any], split: str) -> Iterator[str]:
    """A row carries its provenance itself: it must be that of its manifest."""
    phi = None if how["phi"] is None else float(Fraction(how["phi"]))
    expected = (how["localizer"]["name"], how["attack"], phi, how["steps"], split)
    found = tuple(row[key] for key in ("localizer", "attack", "phi", "steps", "source"))
    if found != expected:
        yield f"says it is {found}, its manifest {expected}"


def _check_figures(row: Mapping[str, Any], mask: ByteImage) -> Iterator[str]:
    counts = Counts(*(int(row[key]) for key in ("tp", "fp", "fn", "tn")))
    forged = int((mask > 127).sum())
    if sum(counts) != mask.size or counts.tp + counts.fn != forged or min(counts) < 0:
        yield "tp, fp, fn and tn are not of its mask"
    for key, value in (("f1_adv", f1(counts)), ("iou_adv", iou(counts))):
        if not _same(row[key], value):
            yield f"{key} is {row[key]}, its counts say {value}"


def _check_distance(one: _Stored, original: _Original, bound: int | None) -> Iterator[str]:
    row, pixels = one.row, decode_stored(original.encoded)
    if pixel_sha256(pixels) != row["original_sha256"] or original.mask_sha256 != row["mask_sha256"]:
        yield "made from another original or mask than config clean holds"
        return
    if one.image.shape != pixels.shape:
        return  # said already: not of the stated size
    found = distance(one.image, pixels)
    if found.linf != row["linf"] or (bound is not None and found.linf > bound):
        yield f"differs by up to {found.linf} levels; stated {row['linf']}, bound {bound}"
    for key in ("l2", "psnr", "ssim", "changed"):
        value = getattr(found, key)
        if not _same(row[key], value):
            yield f"{key} is {row[key]}, its pixels say {value}"


def _same(stored: Any, computed: Any) -> bool:
    """Equal up to rounding; what is not finite is stored as nothing."""
    if computed is None or not math.isfinite(computed):
        return stored is None
    return stored is not None and math.isclose(stored, computed, rel_tol=_SLACK, abs_tol=_SLACK)
