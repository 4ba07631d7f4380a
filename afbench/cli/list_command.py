"""``afbench list``."""

from __future__ import annotations

import json
from typing import Any

import click

from afbench.api.listing import KINDS
from afbench.api.listing import list as list_known
from afbench.reports.text import fold_line

from .echo import echo
from .function_keywords import function_keywords
from .text_tables import table_width, wide_option


@click.command("list", epilog="Example: afbench list attacks")
@click.argument("what", type=click.Choice(KINDS), default="all")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@wide_option
def command(as_json: bool, wide: bool, **options: Any) -> None:
    """Print the attacks, localizers, sources, defences, steps of posting and plans this version knows."""
    listing = list_known(**function_keywords())
    if as_json:
        echo(json.dumps(listing.entries, indent=2))
        return
    for title, entries in listing.entries.items():
        echo(f"{title}:")
        width = max(map(len, entries), default=0)
        for name, summary in entries.items():
            echo(fold_line(f"  {name:<{width}} {summary}", table_width(wide), " " * (width + 3)))
