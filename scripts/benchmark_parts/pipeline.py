"""(c) Whole runs: from files to committed shards, and the share of it that is forward and backward passes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from PIL import Image

from afbench.plan import Block, RunPlan, SourceSpec, expand_attack, shared_gradients
from afbench.workflows.generate import generate
from afbench.workflows.request import Options

from .clock import Clock, middle
from .pictures import pictures
from .table import Table, verdict
from .timed import WATCH

TARGET = 85.0
ITERATIVE = ("bim", "pgd", "mifgsm", "pgn", "cw")
HEAD = (
    "attack",
    "configs",
    "gradients per image",
    "images/s",
    "attacked/s",
    "% forward+backward",
    "% scoring",
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
    """Every attack with all its settings, in a folder of its own on the disk for temporary files."""
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_files(folder / "source", images, side)
        for name in attacks:
            params = {"neighbours": neighbours} if name == "pgn" else {}
            settings = expand_attack(name, steps=steps if name == "cw" else (), params=params)
            plan = RunPlan(
                "benchmark",
                (
                    Block(
                        ("benchmark_parts.timed:build",),
                        (SourceSpec("folder", str(folder / "source")),),
                        settings,
                    ),
                ),
            )
            if not rows:  # the first of all warms up
                _run(plan, folder / "warm", clock)
            runs = [_run(plan, folder / f"{name}-{number}", clock) for number in range(repeats)]
            shares = [100 * inside / took for took, inside, _ in runs]
            rows.append(
                [
                    name,
                    str(len(settings)),
                    str(shared_gradients(settings)),
                    middle([images / took for took, _, _ in runs]),
                    middle([images * len(settings) / took for took, _, _ in runs]),
                    middle(shares),
                    middle([100 * looks / took for took, _, looks in runs]),
                    verdict(median(shares) >= TARGET) if name in ITERATIVE else "",
                ]
            )
    note = (
        f"{images} images of {side}x{side} from PNG files to committed shards (decode, attack, quantise, encode, score, write, "
        f"publish) on `reference`; medians of {repeats} runs with 5 to 95 %. Target: {TARGET:.0f} % of the time inside forward and "
        "backward passes for every iterative attack."
    )
    return Table("From files to committed shards", HEAD, rows, note)


def write_files(root: Path, images: int, side: int) -> None:
    """A source ``folder`` of PNG files."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for sample in pictures(images, side):
        Image.fromarray(sample.image).save(root / "images" / f"{sample.sample_id}.png")
        Image.fromarray(sample.mask).save(root / "masks" / f"{sample.sample_id}.png")


def _run(plan: RunPlan, out: Path, clock: Clock) -> tuple[float, float, float]:
    """Seconds of a run, of gradients in it, and of scoring passes."""
    WATCH.clock, WATCH.gradients, WATCH.looks = clock, 0.0, 0.0
    took = clock(lambda: generate(plan, out, Options(device=clock.device)))
    return took, WATCH.gradients, WATCH.looks
