"""``afbench list``."""

from __future__ import annotations

import json

import click

from afbench.defences import list_defences
from afbench.defences.post_names import list_steps
from afbench.localizers.load import list_localizers
from afbench.plans import ATTACKS, list_plans
from afbench.report.text import fold_line
from afbench.resources import resource_json

from .echo import echo
from .text_tables import table_width, wide_option

_BUILT_IN = {
    "demo": "120 fixed forgeries on free photographs, embedded",
    "synthetic": "forgeries without end from --seed: procedural scenes and free photographs, 128x128",
    "folder": "your own: folder:PATH with PATH/images and PATH/masks, paired by stem; NAME=folder:PATH for several",
    "list": "your own: list:FILE, a text or JSON list of images and masks",
    "hf": "your own: hf:PATH?image=COLUMN&mask=COLUMN, Parquet files or a folder of Dataset.save_to_disk",
}


@click.command("list", epilog="Example: afbench list attacks")
@click.argument(
    "what",
    type=click.Choice(["all", "attacks", "localizers", "sources", "defences", "posting", "plans"]),
    default="all",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@wide_option
def command(what: str, as_json: bool, wide: bool) -> None:
    """Print the attacks, localizers, sources, defences, steps of posting and plans this version knows."""
    published = resource_json("sources")
    listings = {
        "attacks": {
            attack.asked_as or name: f"{attack.summary} (by {attack.sweeps}; {attack.source})"
            for name, attack in ATTACKS.items()
        }
        | {"MODULE:FUNCTION[:NAME=VALUE...]": "your own; see `afbench check-attack --help`"},
        "localizers": list_localizers(),
        "sources": {
            **_BUILT_IN,
            **{
                name: f"{row['title']}: {name}:PATH, your own copy ({row['where']})"
                for name, row in published.items()
            },
        },
        "defences": list_defences(),
        "posting": list_steps(),
        "plans": list_plans(),
    }
    selected = listings if what == "all" else {what: listings[what]}
    if as_json:
        echo(json.dumps(selected, indent=2))
        return
    for title, entries in selected.items():
        echo(f"{title}:")
        width = max(map(len, entries), default=0)
        for name, summary in entries.items():
            echo(fold_line(f"  {name:<{width}} {summary}", table_width(wide), " " * (width + 3)))
