"""Forecast what a plan takes and which part is done already; reads only, and needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from afbench.core import BadSample, Setting
from afbench.images import stated_size
from afbench.plans import RunPlan, SourceSpec, config_name, estimate
from afbench.plans.cost import (
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
from afbench.plans.estimate import WEBP_SHARE, BlockEstimate, expected_source
from afbench.sources.entry_reader import read_bytes, reduced_size
from afbench.sources.index import count_source
from afbench.sources.release_files import find_entries
from afbench.storage.manifests import CLEAN, read_configs, splits_of
from afbench.storage.run_folder import check_folder, free_bytes

from ..request import config_localizer

if TYPE_CHECKING:
    import pandas as pd

HEADERS_READ = 32
"""Images of a user's copy whose headers are read to estimate the typical image size."""


@dataclass(frozen=True)
class FolderState:
    """How many of the plan's configs the folder has, and the gradients that remain (None if images are not counted)."""

    configs_done: int
    configs_left: int
    gradients_left: int | None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """All figures of a plan. A figure is None while a source was not opened or a localizer's cost is not known.

    Attributes:
        plan: what is asked for.
        blocks: what the plan makes, block by block.
        workloads: what remains to be done, by localizer and source.
        gigaflops: gradients and scoring of the remaining work.
        gpu_hours: on one H100 or H200, lowest and highest by precision; not calibrated.
        hours: on this machine, if it was calibrated.
        disk_bytes: size of the finished benchmark.
        missing_bytes: size of the files that remain to be written; sources of unknown size don't count.
        free_bytes: free space on the disk of the folder.
        device_bytes: memory of the largest batch on a GPU, and on a CPU, where it is main memory.
        host_bytes: main memory that is needed in addition.
        limited_by: gradients, encoding, memory or disk, on a CPU and on a GPU; None if nothing is known.
        done: None if the folder doesn't exist.
        speeds: measured ones, by localizer.
    """

    plan: RunPlan
    blocks: list[BlockEstimate]
    workloads: list[Workload]
    gigaflops: float | None
    gpu_hours: dict[str, tuple[float, float]] | None
    hours: float | None
    disk_bytes: int | None
    missing_bytes: int
    free_bytes: int
    device_bytes: dict[str, int]
    host_bytes: int
    limited_by: dict[str, str | None]
    done: FolderState | None
    speeds: Mapping[str, Speed]

    def as_json(self) -> dict[str, Any]:
        """Return all figures as JSON data; ``gradients_per_image`` is that of the plan's first block, its test images."""
        return {
            "plan": self.plan.name,
            "seed": self.plan.seed,
            "limit": self.plan.limit,
            "gradients_per_image": self.blocks[0].gradients_per_image,
            "blocks": [
                {**asdict(block), "gradients_per_image": block.gradients_per_image} for block in self.blocks
            ],
            "loads": [
                {
                    **asdict(workload),
                    "gigaflops": gigaflops(workload),
                    "suggested_batch": {
                        device: suggested_batch(localizer_cost(workload.localizer), workload.pixels, device)
                        for device in ("cpu", "cuda")
                    },
                }
                for workload in self.workloads
            ],
            "gigaflops": self.gigaflops,
            "gpu_hours_uncalibrated": self.gpu_hours,
            "hours_calibrated": self.hours,
            "disk_bytes": self.disk_bytes,
            "missing_bytes": self.missing_bytes,
            "free_bytes": self.free_bytes,
            # programs read this key; people are told of a batch
            "memory_bytes": {"launch": self.device_bytes, "host": self.host_bytes},
            "limited_by": self.limited_by,
            "done": asdict(self.done) if self.done else None,
            "speeds": {name: asdict(speed) for name, speed in self.speeds.items()},
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per block of the plan: configs, images, gradients and bytes."""
        import pandas as pd

        return pd.DataFrame([asdict(block) for block in self.blocks])


def forecast_plan(
    plan: RunPlan,
    out: Path,
    *,
    speeds: Mapping[str, Speed] | None = None,
    device: str = "cpu",
) -> Forecast:
    """Forecast what a plan takes, from published counts and the names of files.

    Args:
        plan: the plan to forecast.
        out: the folder it would write to; configs that are finished there don't count again.
        speeds: measured ones (``calibrate``), by localizer.
        device: the one they were measured on.
    Raises:
        UsageError: if the folder has other content, or a source's root has no file of the source.
        AfbenchError: if the folder is a damaged benchmark.
    """
    check_folder(out)
    counts, pixels = _measure_copies(plan)
    blocks = estimate(plan, counts, pixels)
    finished = list(_finished(plan, out, counts))
    remaining = workloads(plan, counts, pixels, finished)
    speeds = speeds or {}
    total_gigaflops = _total(gigaflops(workload) for workload in remaining)
    device_memory = {
        device_type: max(_batch_bytes(workload, device_type) for workload in remaining)
        for device_type in ("cpu", "cuda")
    }
    main_memory = max(map(host_bytes, remaining))
    disk_bytes = _total(block.disk_bytes for block in blocks)
    missing_bytes = sum(
        (workload.images or 0) * workload.encoded_images * workload.pixels * 3 * WEBP_SHARE
        for workload in remaining
    )
    free_disk = free_bytes(out)
    estimates = [
        measured_seconds(workload, speeds[workload.localizer])
        for workload in remaining
        if workload.localizer in speeds
    ]
    start_seconds = sum(speed.start_seconds for speed in speeds.values())
    hours = _total(None if estimate is None else estimate.total for estimate in estimates) if speeds else None
    limits = {}
    for device_type in ("cpu", "cuda"):
        times = (
            estimates
            if speeds and device.startswith(device_type)
            else [expected_seconds(workload, device_type) for workload in remaining]
        )
        limits[device_type] = _limit(
            times,
            missing_bytes,
            free_disk,
            main_memory + (device_memory["cpu"] if device_type == "cpu" else 0),
        )
    return Forecast(
        plan=plan,
        blocks=blocks,
        workloads=remaining,
        gigaflops=total_gigaflops,
        gpu_hours=None if total_gigaflops is None else gpu_hours(total_gigaflops),
        hours=None if hours is None else (hours + start_seconds) / 3600,
        disk_bytes=None if disk_bytes is None else int(disk_bytes),
        missing_bytes=int(missing_bytes),
        free_bytes=free_disk,
        device_bytes=device_memory,
        host_bytes=main_memory,
        limited_by=limits,
        done=_progress(plan, remaining, finished) if out.exists() else None,
        speeds=speeds,
    )


def remaining_workloads(plan: RunPlan, out: Path) -> list[Workload]:
    """List the work that remains, by localizer and source."""
    counts, pixels = _measure_copies(plan)
    return workloads(plan, counts, pixels, _finished(plan, out, counts))


def _measure_copies(plan: RunPlan) -> tuple[dict[str, int], dict[str, int]]:
    """Count the samples of the sources that the user has a copy of, and estimate the pixels of a typical image."""
    counts: dict[str, int] = {}
    pixels: dict[str, int] = {}
    for source in {source for block in plan.blocks for source in block.sources if source.root}:
        root = str(source.root)
        counts[source.name] = count_source(source.read_as, root)
        if sizes := _sizes(source.read_as, Path(root), source.read.max_side):
            pixels[source.name] = int(median(sizes))
    return counts, pixels


def _sizes(name: str, root: Path, max_side: int | None) -> list[int]:
    """Read the pixel counts of some images of a copy from their headers, as ``max_side`` leaves them; skip images that can't be
    read."""
    if root.suffix == ".json":  # an index: its images may be elsewhere
        return []
    base, entries = find_entries(name, root)
    images = [entry.image for entry in entries if entry.image and entry.label == "forged"]
    sizes = []
    # spread over the copy: neighbours in a list often have one size
    for path in images[:: max(1, len(images) // HEADERS_READ)]:
        try:
            sizes.append(math.prod(reduced_size(stated_size(read_bytes(base, path)), max_side)))
        except BadSample:
            continue
    return sizes


def _finished(plan: RunPlan, out: Path, counts: Mapping[str, int]) -> Iterable[tuple[str, str, Setting]]:
    """Yield what the folder has of a plan, unless it is known to cover fewer samples than the plan asks for."""
    configs = read_configs(out)
    originals = splits_of(configs, CLEAN)
    published = {
        (name, split)
        for name, manifest in configs.items()
        for split, part in manifest.splits.items()
        if split in originals
        and len(part.shards) == len(originals[split].shards)
        and originals[split].samples >= _planned_samples(plan, split, counts)
    }
    for block in plan.blocks:
        for name in block.localizers:
            for setting in block.settings:
                config = config_name(config_localizer(name), setting)
                for source in block.sources:
                    if (config, source.name) in published:
                        yield name, source.name, setting


def _planned_samples(plan: RunPlan, split: str, counts: Mapping[str, int]) -> int:
    """Count the samples a plan asks for; 0 if only a published count could tell, which a copy needn't reach."""
    if split not in counts and split not in ("demo", "synthetic"):
        return 0
    size = expected_source(SourceSpec(split), plan.limit, counts)
    return size[0] if size else 0


def _progress(
    plan: RunPlan, remaining: list[Workload], finished: list[tuple[str, str, Setting]]
) -> FolderState:
    """Count the configs that are done: those that the folder has for every source of their block."""
    finished_cells = [
        (name, source, f"{setting.attack}-{setting.label}") for name, source, setting in finished
    ]
    config_cells = [
        [(name, source.name, f"{setting.attack}-{setting.label}") for source in block.sources]
        for block in plan.blocks
        for name in block.localizers
        for setting in block.settings
    ]
    complete = sum(all(cell in finished_cells for cell in cells) for cells in config_cells)
    gradients = _total(workload.gradients for workload in remaining)
    return FolderState(complete, len(config_cells) - complete, None if gradients is None else int(gradients))


def _limit(expected: list[Seconds | None], disk: float, free: int, memory: int) -> str | None:
    if disk > free:
        return "disk"
    if memory > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        return "memory"
    estimates = [seconds for seconds in expected if seconds]
    if not estimates:
        return None
    gradient_seconds = sum(seconds.network for seconds in estimates)
    return "gradients" if gradient_seconds > sum(seconds.keep for seconds in estimates) else "encoding"


def _batch_bytes(workload: Workload, device: str) -> int:
    return batch_bytes(localizer_cost(workload.localizer), workload.pixels, device)


def _total(numbers: Iterable[float | None]) -> float | None:
    items = list(numbers)
    return (
        None if any(value is None for value in items) else sum(value for value in items if value is not None)
    )
