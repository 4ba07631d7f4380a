"""``afbench stats``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .echo import echo
from .text_tables import table_width, wide_option


@click.command("stats", epilog="Example: afbench stats afbench-out/demo")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@wide_option
def command(folder: Path, as_json: bool, wide: bool) -> None:
    """Print F1 before and after, RP, the all-ones baseline, PSNR and SSIM for every config and source.

    Where a localizer finds nothing in the originals a warning says so; RP is marked with ! where their F1 is below that of
    an all-ones mask, and not shown where it is 0.000.
    """
    from afbench.report.tables import stats_rows, stats_table
    from afbench.report.weak import weak_configs
    from afbench.storage.manifests import open_benchmark

    configs = open_benchmark(folder).configs
    echo(json.dumps(stats_rows(configs), indent=2) if as_json else stats_table(configs, table_width(wide)))
    for line in weak_configs(configs):
        echo(f"warning: {line}", err=True)
