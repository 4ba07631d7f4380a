"""``afbench report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from afbench.core import UsageError

from .echo import echo
from .tables import table_width, wide_option


@click.command("report", epilog="Example: afbench report --paper afbench-out/demo")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--paper", is_flag=True, help="Put the figures beside the ANSM paper's Tables III to VI.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON.")
@wide_option
def command(folders: tuple[Path, ...], paper: bool, as_json: bool, wide: bool) -> None:
    """Put what was measured beside what was published.

    Of FOLDERS, benchmarks fill the undefended figures and scores the defended ones. Figures the paper contradicts itself in are marked
    with ! and kept out of any difference; - was not measured.
    """
    if not paper:
        raise UsageError("say beside what: --paper is the only report so far")
    from afbench.report.paper import paper_table
    from afbench.workflows.paper import beside_the_paper

    records = beside_the_paper(folders)
    echo(json.dumps(records, indent=2) if as_json else paper_table(records, table_width(wide)))
