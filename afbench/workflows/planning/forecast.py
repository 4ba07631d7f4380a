"""What a plan will take, and what of it is there already; touches nothing, needs no torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from afbench.core import BadSample, Setting
from afbench.images import stated_pixels
from afbench.plan import RunPlan, SourceSpec, config_name, estimate
from afbench.plan.cost import (
    Seconds,
    Speed,
    Workload,
    batch_bytes,
    expected_seconds,
    gigaflops,
    gpu_hours,
    host_bytes,
    localizer_cost,
    measured_seconds,
    suggested_batch,
    workloads,
)
from afbench.plan.estimate import WEBP_SHARE, BlockEstimate, expected_source
from afbench.sources.entry_reader import read_bytes
from afbench.sources.index import count_source
from afbench.sources.release_files import find_entries
from afbench.storage.manifests import CLEAN, read_configs, splits_of
from afbench.storage.run_folder import check_folder, free_bytes

from ..request import config_localizer

SIZES_LOOKED_AT = 32
"""Images of a user's copy whose headers are read for their size."""


@dataclass(frozen=True)
class Done:
    """Of the configs asked for, by what is published in the folder; ``gradients_left`` None where images are not counted."""

    configs_done: int
    configs_left: int
    gradients_left: int | None


@dataclass(frozen=True)
class Outlook:
    """All figures of a plan. None: not known before somebody opens a source, or tells what a localizer costs.

    Attributes:
        blocks: what the plan makes, block by block.
        loads: the same by localizer and source, without what is done.
        gigaflops: of gradients and scoring, for what is left.
        gpu_hours: of one H100 or H200, least and most by precision; uncalibrated.
        hours: on this machine, where it was calibrated.
        disk_bytes: of the finished benchmark.
        missing_bytes: of what is not there yet; sources that nobody counted are left out.
        free_bytes: on the disk of the folder.
        device_bytes: of the largest launch on a GPU and on a CPU, where it is main memory.
        host_bytes: of main memory beside that.
        limited_by: gradients, encoding, memory or disk, on a CPU and on a GPU; None where nothing is known.
        done: None where there is no folder.
        speeds: as measured, by localizer.
    """

    blocks: list[BlockEstimate]
    loads: list[Workload]
    gigaflops: float | None
    gpu_hours: dict[str, tuple[float, float]] | None
    hours: float | None
    disk_bytes: int | None
    missing_bytes: int
    free_bytes: int
    device_bytes: dict[str, int]
    host_bytes: int
    limited_by: dict[str, str | None]
    done: Done | None
    speeds: Mapping[str, Speed]


def look_ahead(
    plan: RunPlan,
    out: Path,
    *,
    speeds: Mapping[str, Speed] | None = None,
    device: str = "cpu",
) -> Outlook:
    """Work out what a plan takes, from published counts and the names of files.

    Args:
        plan: what is asked for.
        out: the folder it would go to; what is published there is not counted again.
        speeds: measured ones (``calibrate``), by localizer.
        device: the one they were measured on.
    Raises:
        UsageError: if the folder holds something else, or a source's root nothing of it.
        AfbenchError: if the folder is a damaged benchmark.
    """
    check_folder(out)
    counts, pixels = _look_at_copies(plan)
    blocks = estimate(plan, counts, pixels)
    finished = list(_finished(plan, out, counts))
    left = workloads(plan, counts, pixels, finished)
    speeds = speeds or {}
    counted = _total(gigaflops(load) for load in left)
    memory = {one: max(_launch(load, one) for load in left) for one in ("cpu", "cuda")}
    beside = max(map(host_bytes, left))
    disk = _total(block.disk_bytes for block in blocks)
    missing = sum((load.images or 0) * load.encoded_images * load.pixels * 3 * WEBP_SHARE for load in left)
    free = free_bytes(out)
    measured = [measured_seconds(load, speeds[load.localizer]) for load in left if load.localizer in speeds]
    start = sum(speed.start_seconds for speed in speeds.values())
    hours = _total(None if one is None else one.total for one in measured) if speeds else None
    limits = {}
    for one in ("cpu", "cuda"):
        times = (
            measured if speeds and device.startswith(one) else [expected_seconds(load, one) for load in left]
        )
        limits[one] = _limit(times, missing, free, beside + (memory["cpu"] if one == "cpu" else 0))
    return Outlook(
        blocks,
        left,
        counted,
        None if counted is None else gpu_hours(counted),
        None if hours is None else (hours + start) / 3600,
        None if disk is None else int(disk),
        int(missing),
        free,
        memory,
        beside,
        limits,
        _done(plan, left, finished) if out.exists() else None,
        speeds,
    )


def open_loads(plan: RunPlan, out: Path) -> list[Workload]:
    """What is left to do, by localizer and source."""
    counts, pixels = _look_at_copies(plan)
    return workloads(plan, counts, pixels, _finished(plan, out, counts))


def as_json(plan: RunPlan, seen: Outlook) -> dict[str, Any]:
    """An outlook for programs; the gradients per image are those of the plan's first block, its test images."""
    return {
        "plan": plan.name,
        "seed": plan.seed,
        "limit": plan.limit,
        "gradients_per_image": seen.blocks[0].gradients_per_image,
        "blocks": [
            {**asdict(block), "gradients_per_image": block.gradients_per_image} for block in seen.blocks
        ],
        "loads": [
            {
                **asdict(load),
                "gigaflops": gigaflops(load),
                "suggested_batch": {
                    device: suggested_batch(localizer_cost(load.localizer), load.pixels, device)
                    for device in ("cpu", "cuda")
                },
            }
            for load in seen.loads
        ],
        "gigaflops": seen.gigaflops,
        "gpu_hours_uncalibrated": seen.gpu_hours,
        "hours_calibrated": seen.hours,
        "disk_bytes": seen.disk_bytes,
        "missing_bytes": seen.missing_bytes,
        "free_bytes": seen.free_bytes,
        "memory_bytes": {"launch": seen.device_bytes, "host": seen.host_bytes},
        "limited_by": seen.limited_by,
        "done": asdict(seen.done) if seen.done else None,
        "speeds": {name: asdict(speed) for name, speed in seen.speeds.items()},
    }


def _look_at_copies(plan: RunPlan) -> tuple[dict[str, int], dict[str, int]]:
    """Samples and typical pixels of the sources the user has a copy of."""
    counts: dict[str, int] = {}
    pixels: dict[str, int] = {}
    for source in {source for block in plan.blocks for source in block.sources if source.root}:
        root = str(source.root)
        counts[source.name] = count_source(source.read_as, root)
        if seen := _sizes(source.read_as, Path(root)):
            pixels[source.name] = int(median(seen))
    return counts, pixels


def _sizes(name: str, root: Path) -> list[int]:
    """Pixels of some images of a copy, by their headers; those that cannot be read are left out."""
    if root.suffix == ".json":  # an index: its images may be elsewhere
        return []
    base, entries = find_entries(name, root)
    images = [entry.image for entry in entries if entry.image and entry.label == "forged"]
    found = []
    for path in images[:: max(1, len(images) // SIZES_LOOKED_AT)]:
        try:
            found.append(stated_pixels(read_bytes(base, path)))
        except BadSample:
            continue
    return found


def _finished(plan: RunPlan, out: Path, counts: Mapping[str, int]) -> Iterable[tuple[str, str, Setting]]:
    """What is there of a plan; not what covers fewer samples than are asked for, as far as they were counted."""
    configs = read_configs(out)
    originals = splits_of(configs, CLEAN)
    published = {
        (name, split)
        for name, manifest in configs.items()
        for split, part in manifest.splits.items()
        if split in originals
        and len(part.shards) == len(originals[split].shards)
        and originals[split].samples >= _wanted(plan, split, counts)
    }
    for block in plan.blocks:
        for name in block.localizers:
            for setting in block.settings:
                config = config_name(config_localizer(name), setting)
                for source in block.sources:
                    if (config, source.name) in published:
                        yield name, source.name, setting


def _wanted(plan: RunPlan, split: str, counts: Mapping[str, int]) -> int:
    """Samples that are asked for; 0 where only a published count could tell, which a copy need not have."""
    if split not in counts and split not in ("demo", "synthetic"):
        return 0
    size = expected_source(SourceSpec(split), plan.limit, counts)
    return size[0] if size else 0


def _done(plan: RunPlan, left: list[Workload], finished: list[tuple[str, str, Setting]]) -> Done:
    """A config is done when it is there for every source of its block."""
    there = [(name, source, f"{one.attack}-{one.label}") for name, source, one in finished]
    asked = [
        [(name, source.name, f"{one.attack}-{one.label}") for source in block.sources]
        for block in plan.blocks
        for name in block.localizers
        for one in block.settings
    ]
    complete = sum(all(cell in there for cell in cells) for cells in asked)
    gradients = _total(load.gradients for load in left)
    return Done(complete, len(asked) - complete, None if gradients is None else int(gradients))


def _limit(times: list[Seconds | None], disk: float, free: int, memory: int) -> str | None:
    if disk > free:
        return "disk"
    if memory > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return "memory"
    known = [one for one in times if one]
    if not known:
        return None
    return "gradients" if sum(one.network for one in known) > sum(one.keep for one in known) else "encoding"


def _launch(load: Workload, device: str) -> int:
    return batch_bytes(localizer_cost(load.localizer), load.pixels, device)


def _total(values: Iterable[float | None]) -> float | None:
    known = list(values)
    return None if any(one is None for one in known) else sum(one for one in known if one is not None)
