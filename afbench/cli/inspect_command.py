"""``afbench inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import yaml

from afbench.api.inspecting import inspect

from .echo import echo
from .function_keywords import function_keywords
from .name_types import CONFIG


@click.command("inspect", epilog="Example: afbench inspect afbench-out/demo --config reference-cw-50")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--config", type=CONFIG, metavar="NAME", help="Look into one config: how it was made, and its shards."
)
@click.option(
    "--sample", metavar="ID", help="The whole provenance of a sample's row, or of its rows in all configs."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(as_json: bool, **options: Any) -> None:
    """Say what a benchmark holds, how a config was made, or where one row comes from."""
    contents = inspect(**function_keywords())
    if as_json:
        echo(json.dumps(contents, indent=2))
    else:
        echo(yaml.safe_dump(contents, sort_keys=False, allow_unicode=True, width=80).rstrip())
