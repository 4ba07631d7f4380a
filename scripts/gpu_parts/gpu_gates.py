"""What must hold on a GPU: its own tests, memory that runs out, the same bytes twice, the CPU's F1."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmark_parts.pipeline import write_files
from pyarrow import parquet

from afbench.core import UsageError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reading.load_pairs import load
from afbench.storage.manifests import TOP
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

from .report import Report, Scale

ROOT = Path(__file__).resolve().parent.parent.parent
L2_F1 = 0.005
"""What F1 may move between devices: level L2 of docs/reliability.md."""


def gpu_tests(report: Report, scale: Scale) -> None:
    """Run the tests that need a GPU, among them that no attack waits for it inside its loop; some must have run."""
    marked = [
        str(path.relative_to(ROOT))
        for path in sorted(ROOT.glob("tests/**/test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *marked,
    ]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1].strip("= ")
    report.heading(
        "Tests that need a GPU", "`pytest -m gpu`, among them: no attack waits for the GPU inside its loop."
    )
    report.line(last)
    report.line()
    passed = re.search(r"(\d+) passed", last)
    if done.returncode or (scale.on_gpu and not passed):
        print(done.stdout[-4000:], done.stderr[-2000:], file=sys.stderr)
        sys.exit(1)


def out_of_memory(report: Report, scale: Scale) -> None:
    """Give a run less memory than its batches need; it must halve them, log that, and store every image."""
    side, images, batch = (48, 3, 3) if scale.tiny else (512, 16, 16)
    mebibytes = 2048
    limit = (
        f"the allocator held to {mebibytes} MiB"
        if scale.on_gpu
        else "a localizer that refuses more than two images"
    )
    report.heading(
        "Memory that runs out",
        f"BIM, phi 1/255, on {images} images of {side}x{side} with `--batch-size {batch}` on `reference`, {limit}.",
    )
    localizer = "reference" if scale.on_gpu else "gpu_parts.cramped:build"
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        source = _folder_source(folder / "source", images, side)
        plan = _plan(localizer, source, list(expand_attack("bim", phi=["1/255"], params={"steps": 2})))
        if scale.on_gpu:
            share = mebibytes * 2**20 / torch.cuda.get_device_properties(scale.device).total_memory
            torch.cuda.set_per_process_memory_fraction(share)
        generate(plan, folder / "out", Options(device=scale.device, batch_size=batch))
        events = [json.loads(line) for line in (folder / "out/log/run.jsonl").read_text().splitlines()]
        halved = [event["batch_size"] for event in events if event["event"] == "halved"]
        (config,) = (name for name in _configs(folder / "out") if name != "clean")
        stored = len(load(folder / "out", config))
    report.table(
        ["asked for", "halved to", "images stored", "verdict"],
        [
            [
                str(batch),
                ", ".join(map(str, halved)) or "never",
                f"{stored} of {images}",
                "holds" if halved and stored == images else "FAILED",
            ]
        ],
    )
    if not halved or stored != images:
        sys.exit(1)


def same_bytes(report: Report, scale: Scale) -> None:
    """Make the same benchmark twice, and on the CPU once."""
    side, images = (32, 2) if scale.tiny else (128, 4)
    settings = [
        *expand_attack("fgsm"),
        *expand_attack("bim", phi=["1/255"]),
        *expand_attack("mifgsm", phi=["1/255"]),
        *expand_attack("pgd", phi=["1/255"]),
        *expand_attack("pgn", phi=["1/255"], params={"steps": 2, "neighbours": 2}),
        *expand_attack("cw", steps=[5]),
    ]
    localizers = scale.localizers or (["reference"] if scale.tiny else ["reference", "mvss", "hdfnet"])
    report.heading(
        "The same bytes twice",
        f"{len(settings)} configs of six attacks on {images} images of {side}x{side}, made twice (level L1: data files are equal), and in fp32 on the "
        f"CPU (level L2: mean F1 within {L2_F1}; `reference` alone, since F1 of untrained weights means nothing).",
    )
    failures = []

    def rows() -> Iterator[Sequence[str]]:
        for name in localizers:
            for precision in scale.available_precisions:
                with tempfile.TemporaryDirectory() as text:
                    row, holds = _made_twice(name, precision, settings, Path(text), images, side, scale)
                if not holds:
                    failures.append(name)
                yield row

    report.table(["localizer", "precision", "same bytes", "F1 moves from the CPU's", "verdict"], rows())
    if failures:
        sys.exit(1)


def _made_twice(
    name: str, precision: str, settings: Sequence[Any], folder: Path, images: int, side: int, scale: Scale
) -> tuple[list[str], bool]:
    """Measure one row; return it, and whether it keeps the promises of its level."""
    plan = _plan(name, _folder_source(folder / "source", images, side), settings)
    checkpoint = None if name == "reference" else "random"
    options = Options(device=scale.device, precision=precision, checkpoint=checkpoint, batch_size=8)
    try:
        for out in ("first", "second"):
            generate(plan, folder / out, options)
    except UsageError as error:
        if "--no-deterministic" not in str(error):
            raise
        return [name, precision, "refused", "-", str(error)], True  # as promised: it never says L1 then
    equal = _data_hashes(folder / "first") == _data_hashes(folder / "second")
    moved = None
    if precision == "fp32" and name == "reference":
        generate(plan, folder / "cpu", Options(batch_size=8))
        moved = max(
            abs(_mean_f1(folder / "first", config) - _mean_f1(folder / "cpu", config))
            for config in _configs(folder / "cpu")
            if config != "clean"
        )
    holds = equal and (moved is None or moved <= L2_F1)
    f1_text = "-" if moved is None else f"{moved:.4f}"
    return [name, precision, "yes" if equal else "NO", f1_text, "holds" if holds else "FAILED"], holds


def _plan(localizer: str, source: SourceSpec, settings: Sequence[Any]) -> RunPlan:
    return RunPlan("gpu-check", (Block((localizer,), (source,), tuple(settings)),))


def _folder_source(folder: Path, images: int, side: int) -> SourceSpec:
    if not folder.exists():
        write_files(folder, images, side)
    return SourceSpec("folder", str(folder))


def _configs(out: Path) -> list[str]:
    return sorted(path.stem for path in (out / "manifests").glob("*.json"))


def _data_hashes(out: Path) -> dict[str, str]:
    listing = json.loads((out / TOP).read_text(encoding="utf-8"))["files"]
    return {path: entry["sha256"] for path, entry in listing.items() if path.startswith("data/")}


def _mean_f1(out: Path, config: str) -> float:
    tables = [
        parquet.read_table(path, columns=["f1_adv"]) for path in (out / "data" / config).glob("*.parquet")
    ]
    values = [value for table in tables for value in table["f1_adv"].to_pylist()]
    return sum(values) / len(values)
