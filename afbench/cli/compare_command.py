"""``afbench compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.ranking import compare

from .echo import echo
from .function_keywords import function_keywords
from .text_tables import table_width, wide_option


@click.command("compare", epilog="Example: afbench compare scores/none scores/jpeg")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@wide_option
def command(as_json: bool, wide: bool, **options: Any) -> None:
    """Compare two score folders image by image: F1 and RP, first minus second, and whether they tie.

    FIRST and SECOND are of one dataset version and the same images. The 95 % intervals are a bootstrap over images, paired by
    sample and stratified by source; two submissions tie where the interval of their difference holds 0.
    """
    comparison = compare(**function_keywords())
    for line in comparison.warnings:
        echo(f"warning: {line}", err=True)
    if as_json:
        echo(json.dumps(comparison.figures, indent=2))
        return
    from afbench.reports.differences import differences_table

    echo(differences_table(comparison.figures, table_width(wide)))
