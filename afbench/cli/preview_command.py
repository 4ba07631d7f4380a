"""``afbench preview``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from afbench.core import UsageError

from .echo import echo
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
    type=click.IntRange(1, 64),
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
def command(
    folder: Path,
    configs: tuple[str, ...],
    split: str | None,
    samples: tuple[str, ...],
    count: int,
    checkpoint: str | None,
    localizer: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write a PNG contact sheet: original, attacked, noise x40, mask, and what was found before and after."""
    target = out or folder / "log" / "preview.png"
    if target.suffix.lower() != ".png":
        raise UsageError(f"--out must end in .png; found '{target}'")
    # verify would report the picture as a file that does not belong there
    if folder.resolve() in target.resolve().parents and target.resolve().parent != (folder / "log").resolve():
        raise UsageError(
            f"--out '{target}' lies inside the benchmark, which is a closed list; use {folder}/log/"
        )
    from afbench.files import commit_bytes
    from afbench.images import png_bytes
    from afbench.workflows.reporting.preview import preview

    sheet = preview(
        folder,
        configs=configs,
        split=split,
        samples=samples,
        count=count,
        checkpoint=checkpoint,
        localizer=localizer,
    )
    commit_bytes(target, png_bytes(sheet))
    summary = {"picture": str(target), "width": sheet.width, "height": sheet.height}
    echo(json.dumps(summary, indent=2) if as_json else str(target))
