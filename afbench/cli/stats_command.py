"""``afbench stats``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from afbench.api.checking import stats
from afbench.core import AfbenchError
from afbench.reports.tables import stats_table, worst_table

from .echo import echo
from .text_tables import table_width, wide_option


@click.command("stats", epilog="Example: afbench stats afbench-out/demo")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@wide_option
def command(folder: Path, as_json: bool, wide: bool) -> None:
    """Print F1 before and after, RP, the all-ones baseline, PSNR and SSIM for every config and source.

    The attack strong comes first: its RP says how robust a localizer is. A second table takes of each image the lowest F1 that
    any stored attack left.

    Where a localizer finds nothing in the originals a warning says so; RP is marked with ! where their F1 is below that of
    an all-ones mask, and not shown where it is 0.000.
    """
    figures = stats(folder)
    if as_json:
        echo(json.dumps(figures.rows, indent=2))
    else:
        configs = figures.benchmark.configs
        echo(stats_table(configs, table_width(wide)))
        # the other figures stand in the manifests, so they are shown where shards are missing or damaged, too
        try:
            if worst_rows := figures.worst():
                echo("\n" + worst_table(worst_rows, table_width(wide)))
        except AfbenchError as error:
            echo(f"warning: no worst case per image: {error}", err=True)
    for line in figures.warnings:
        echo(f"warning: {line}", err=True)
