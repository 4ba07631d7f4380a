"""``afbench preview``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.inspecting import MOST_SAMPLES, preview

from .echo import echo
from .function_keywords import function_keywords
from .name_types import CONFIG


@click.command("preview", epilog="Example: afbench preview afbench-out/demo --out sheet.png")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--config",
    "configs",
    type=CONFIG,
    multiple=True,
    metavar="NAME",
    help="Config to show; repeat. Default: the strongest of every attack.",
)
@click.option("--split", metavar="SOURCE", help="Which source. Default: the samples' own, else the first.")
@click.option("--sample", "samples", multiple=True, metavar="ID", help="Show this sample; repeat.")
@click.option(
    "--count",
    type=click.IntRange(1, MOST_SAMPLES),
    default=1,
    show_default=True,
    help="Without --sample: how many to show per config, spread from the lowest F1 of the originals to the highest; 1 is the median.",
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Weights of the attacked localizer, if they are neither embedded nor registered.",
)
@click.option("--localizer", metavar="MODULE:FUNCTION", help="Your own localizer, where it was attacked.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PNG to write. Default: FOLDER/log/preview.png.",
)
@click.option("--json", "as_json", is_flag=True, help="Print where the sheet is, and its size, as JSON.")
def command(folder: Path, out: Path | None, as_json: bool, **options: Any) -> None:
    """Write a PNG contact sheet: original, attacked, noise x40, mask, and what was found before and after."""
    path = out or folder / "log" / "preview.png"
    sheet = preview(**{**function_keywords(), "out": path})
    summary = {"picture": str(path), "width": sheet.width, "height": sheet.height}
    echo(json.dumps(summary, indent=2) if as_json else str(path))
