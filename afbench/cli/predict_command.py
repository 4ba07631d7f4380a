"""``afbench predict``."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import click

from afbench.api.submitting import predict

from .echo import echo
from .function_keywords import function_keywords
from .name_types import DEFENCE, LOCALIZER
from .progress import quiet_option


@click.command(
    "predict",
    epilog="Example: afbench predict --data afbench-out/demo --localizer reference --defence jpeg --out submission",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="A finished benchmark, of Parquet or HDF5 shards.",
)
@click.option(
    "--localizer",
    type=LOCALIZER,
    required=True,
    metavar="NAME",
    help="What the benchmark's configs attacked.",
)
@click.option(
    "--localizer-name", metavar="NAME", help="What the configs call it, if `generate` was told another name."
)
@click.option(
    "--defence",
    type=DEFENCE,
    default="none",
    show_default=True,
    metavar="NAME[:SETTING]",
    help="What stands in front of the localizer: none, jpeg:QUALITY, resize, random-resize-pad, gaussian-noise, median, bit-depth, tv, ansm, ansm:CHECKPOINT, nrp:CHECKPOINT, or your own as my_package.my_module:build.",
)
@click.option(
    "--adaptive",
    is_flag=True,
    help="Predict on the configs whose attacks went through this defence (generate --through-defence), not on those made against the bare localizer.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of a random defence."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the submission.")
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Weights of the localizer, if they are neither embedded nor registered.",
)
@click.option("--name", metavar="TEXT", help="What a leaderboard calls the submission.")
@click.option("--author", "authors", multiple=True, metavar="TEXT", help="Author of the submission; repeat.")
@click.option("--date", metavar="YYYY-MM-DD", help="Date of the submission. Default: today.")
@click.option("--probabilities", is_flag=True, help="Write 8-bit probability maps too, for auc and f1_best.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--batch-size", type=click.IntRange(1), help="Images per batch. Default: as many as suit their size."
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@quiet_option
def command(data: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Run a localizer behind a defence over a benchmark, and write the submission that `afbench score` takes.

    Covers every config made against the localizer, and the originals. Run it again to go on after an interruption, or
    to add the configs that the benchmark got since.
    """
    predicted = predict(**function_keywords())
    for line in predicted.warnings:
        echo(f"warning: {line}", err=True)
    if as_json:
        summary = {
            "folder": str(out),
            "images": predicted.images,
            "added": list(predicted.added),
            "warnings": list(predicted.warnings),
        }
        echo(json.dumps(summary, indent=2))
        return
    # only a benchmark that grew since an earlier run of this command has added configs
    if predicted.added:
        from afbench.scoring.versions import named

        echo(f"{data} has grown since: {len(predicted.added)} added ({named(predicted.added)})")
    echo(f"{predicted.images} images localized into {out}")
    echo(f"next: afbench score {quote(str(out))} --data {quote(str(data))} --out score")
