"""``afbench compare``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .echo import echo
from .text_tables import table_width, wide_option


@click.command("compare", epilog="Example: afbench compare scores/none scores/jpeg")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
@wide_option
def command(first: Path, second: Path, as_json: bool, wide: bool) -> None:
    """Compare two score folders image by image: F1 and RP, first minus second, and whether they tie.

    FIRST and SECOND are of one dataset version and the same images. The 95 % intervals are a bootstrap over images, paired by
    sample and stratified by source; two submissions tie where the interval of their difference holds 0.
    """
    from afbench.report.differences import differences_table
    from afbench.scoring.compare import compare, comparison_json
    from afbench.scoring.statistics import few_images
    from afbench.scoring.stored_scores import read_scores

    first_score, second_score = read_scores([first, second])
    for line in few_images(first_score.per_image):
        echo(f"warning: {line}", err=True)
    comparison = comparison_json(first_score, second_score, compare(first_score, second_score))
    echo(json.dumps(comparison, indent=2) if as_json else differences_table(comparison, table_width(wide)))
