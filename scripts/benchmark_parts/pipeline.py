"""(c) Whole runs: from files to committed shards, and the share of it that is forward and backward passes.

Those of gradients are what the target is held against; the forward passes that score what was made have their own column.

Each with everything in turn (--image-threads 0) and with threads beside the attack, one after the other.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from PIL import Image

from afbench.engine.io_pool import default_threads
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack, shared_gradients
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

from .clock import Clock, middle
from .pictures import pictures
from .table import Table, verdict
from .timed import WATCH

TARGET = 90.0
SHARD = 8
"""Samples per shard: a run of few images shall have several, as long ones do."""
LONG = 100
ITERATIVE = ("bim", "pgd", "mifgsm", "pgn", "cw")
HEAD = (
    "attack",
    "configs",
    "gradients per image",
    "images/s in turn",
    "images/s",
    "attacked/s",
    "times faster",
    "% gradients",
    "% scoring passes",
    "target",
)


def table(
    *,
    images: int,
    side: int,
    repeats: int,
    clock: Clock,
    attacks: tuple[str, ...] = ("fgsm", *ITERATIVE),
    neighbours: int = 20,
    steps: tuple[int, ...] = (50, 100, 150, 200, 250),
) -> Table:
    """Measure every attack with all its settings, each in its own folder on the disk for temporary files."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_files(folder / "source", images, side)
        source = SourceSpec("folder", str(folder / "source"))
        for name in attacks:
            params = {"neighbours": neighbours} if name == "pgn" else {}
            settings = expand_attack(name, steps=steps if name == "cw" else (), params=params)
            # a run of long attacks lasts with half the images: start and end weigh nothing in it
            image_count = images if shared_gradients(settings) < LONG else max(1, images // 2)
            plan = RunPlan(
                "benchmark",
                (Block(("benchmark_parts.timed:build",), (source,), settings),),
                limit=image_count,
            )
            if not rows:  # the first of all warms up
                _run(plan, folder / "warm", clock)
            pairs = [_pair(plan, folder / f"{name}-{number}", clock, number) for number in range(repeats)]
            # processor time does not say whose it is: then only of what is done in turn a share is known
            timed = [turn if clock.processor else threaded for turn, threaded in pairs]
            gradients = [100 * run.gradients / run.took for run in timed]
            looks = [100 * run.looks / run.took for run in timed]
            rows.append(
                [
                    name,
                    str(len(settings)),
                    str(shared_gradients(settings)),
                    middle([image_count / turn.wall for turn, _ in pairs]),
                    middle([image_count / threaded.wall for _, threaded in pairs]),
                    middle([image_count * len(settings) / threaded.wall for _, threaded in pairs]),
                    middle([turn.wall / threaded.wall for turn, threaded in pairs]),
                    middle(gradients),
                    middle(looks),
                    verdict(median(gradients) >= TARGET) if name in ITERATIVE else "",
                ]
            )
    note = (
        f"{images} images of {side}x{side} (half of them for {LONG} gradients and more) from PNG files to committed shards (decode, attack, quantise, encode, score, write, "
        f"publish) on `reference`; medians of {repeats} runs with 5 to 95 %. In turn: `--image-threads 0`; else {default_threads()} threads "
        "decode, encode and compare beside the attack; both by the clock on the wall, in neighbouring runs. "
        f"Target: {TARGET:.0f} % of the time inside gradients (forward pass, loss, backward pass), for every iterative attack."
    )
    return Table("From files to committed shards", HEAD, rows, note)


def write_files(root: Path, images: int, side: int) -> None:
    """Write a source ``folder`` of PNG files."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for sample in pictures(images, side):
        Image.fromarray(sample.image).save(root / "images" / f"{sample.sample_id}.png")
        Image.fromarray(sample.mask).save(root / "masks" / f"{sample.sample_id}.png")


class _RunTimes(NamedTuple):
    """Seconds of a run by the benchmark's clock and on the wall, of gradients in it, and of scoring passes."""

    took: float
    wall: float
    gradients: float
    looks: float


def _pair(plan: RunPlan, out: Path, clock: Clock, number: int) -> tuple[_RunTimes, _RunTimes]:
    """Time the same run in turn and with threads, taking turns at being first."""
    runs = {}
    for workers in (0, default_threads()) if number % 2 else (default_threads(), 0):
        runs[workers] = _run(plan, out / str(workers), clock, workers)
    return runs[0], runs[default_threads()]


def _run(plan: RunPlan, out: Path, clock: Clock, workers: int | None = None) -> _RunTimes:
    WATCH.clock, WATCH.gradients, WATCH.looks = clock, 0.0, 0.0
    start = time.perf_counter()
    took = clock(
        lambda: generate(plan, out, Options(device=clock.device, image_threads=workers, shard_size=SHARD))
    )
    return _RunTimes(took, time.perf_counter() - start, WATCH.gradients, WATCH.looks)
