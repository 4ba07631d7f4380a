"""(d) How the rate follows the batch, the size of images and their number, and whether memory stays flat."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from afbench.engine.grid import AttackBatch
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

from .clock import Clock, middle
from .pictures import a_localizer, as_batch, attack, pictures
from .table import Table, verdict

FLAT = 1.1
"""Times the peak of the fewest images that memory may reach with many."""


def batches(*, sizes: Sequence[tuple[int, int]], repeats: int, clock: Clock) -> Table:
    """Measure PGD's gradients per second for (side, images per batch); all cases turn by turn."""
    localizer = a_localizer("reference", clock.device)
    setting = expand_attack("pgd", phi=["1/255"], params={"steps": 2})

    def once(batch: AttackBatch) -> float:
        counts: list[int] = []
        seconds = clock(lambda: counts.append(attack(localizer, batch, list(setting), len(batch.image))[1]))
        return counts[0] / seconds

    cases = {size: as_batch(pictures(size[1], size[0]), clock.device) for size in sizes}
    rates: dict[tuple[int, int], list[float]] = {size: [] for size in sizes}
    for _ in range(repeats + 1):
        for size, batch in cases.items():
            rates[size].append(once(batch))
    rows = [
        [
            str(side),
            str(number),
            middle(rates[side, number][1:]),
            middle([rate * side * side / 1e6 for rate in rates[side, number][1:]]),
        ]
        for side, number in sizes
    ]
    note = f"PGD on `reference`; medians of {repeats} interleaved runs with 5 to 95 %."
    return Table(
        "Batch and image size", ("side", "images per batch", "gradients/s", "megapixels/s"), rows, note
    )


def memory(*, numbers: Sequence[int], shard_size: int, clock: Clock) -> Table:
    """Measure the peak memory of whole runs on more and more images, each in its own process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        results = list(pool.map(_run, numbers, [shard_size] * len(numbers), [clock] * len(numbers)))
    first = results[0][1]
    rows = [
        [str(number), f"{number / seconds:.3g}", f"{peak:.0f}", verdict(peak <= FLAT * first)]
        for number, (seconds, peak) in zip(numbers, results, strict=True)
    ]
    note = f"FGSM and PGD on synthetic forgeries of 128x128, shards of {shard_size}. Target: at most {FLAT} times the first peak."
    return Table("Number of images", ("images", "images/s", "peak MiB", "target"), rows, note)


def _run(number: int, shard_size: int, clock: Clock) -> tuple[float, float]:
    """Measure the seconds of a run, and the peak memory of this process or, on a GPU, of the GPU."""
    settings = (*expand_attack("fgsm"), *expand_attack("pgd", phi=["1/255"], params={"steps": 2}))
    plan = RunPlan(
        "benchmark", (Block(("reference",), (SourceSpec("synthetic", None),), settings),), limit=number
    )
    with tempfile.TemporaryDirectory() as folder:
        options = Options(device=clock.device, shard_size=shard_size)
        seconds = clock(lambda: generate(plan, Path(folder) / "out", options))
    if clock.device.startswith("cuda"):
        return seconds, torch.cuda.max_memory_allocated(clock.device) / 2**20
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
