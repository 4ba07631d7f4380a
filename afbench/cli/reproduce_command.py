"""``afbench reproduce``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from afbench.api.inspecting import reproduce

from .echo import echo
from .function_keywords import function_keywords
from .name_types import DEFENCE
from .progress import quiet_option


@click.command(
    "reproduce",
    epilog="\b\nExample: afbench reproduce afbench-out/demo --row reference-cw-50/demo/demo-000-copy_move-astronaut",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--row",
    metavar="CONFIG/SPLIT/SAMPLE_ID",
    required=True,
    help="Which row; `afbench inspect` shows what there is.",
)
@click.option(
    "--alone",
    is_flag=True,
    help="Run the row by itself instead of in the batch that made it; in float32 that may move single levels.",
)
@click.option("--localizer", metavar="MODULE:FUNCTION", help="The localizer, where it is your own.")
@click.option("--checkpoint", metavar="PATH", help="Weights of the localizer, where they are not registered.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="An attack of your own that made configs; repeat for several.",
)
@click.option(
    "--through-defence",
    type=DEFENCE,
    metavar="NAME",
    help="What the attacks went through, where it is a defence of your own or one you trained.",
)
@click.option("--device", help="Where to compute. Default: the device in the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@quiet_option
def command(row: str, as_json: bool, **options: Any) -> int:
    """Make one row again as it was made, in the same batch, and compare the pixels.

    Exit code 0 if every value is the same, 1 if one is not.
    """
    reproduction = reproduce(**function_keywords())
    if as_json:
        echo(json.dumps(asdict(reproduction), indent=2))
    elif reproduction.identical:
        echo(f"{row}: identical, {reproduction.of} values (image sha256 {reproduction.image_sha256[:16]})")
    else:
        echo(
            f"{row}: differs by up to {reproduction.levels} levels in {reproduction.values} of {reproduction.of} values ({reproduction.differs})"
        )
    return 0 if reproduction.identical else 1
