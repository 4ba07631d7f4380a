"""``afbench report``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from afbench.core import UsageError

from .echo import echo
from .text_tables import table_width, wide_option


@click.command("report", epilog="Example: afbench report --paper afbench-out/demo")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--paper", is_flag=True, help="Compare the figures with the ANSM paper's Tables III to VI.")
@click.option(
    "--all", "everything", is_flag=True, help="Also print the paper's figures that nobody measured."
)
@click.option("--latex", is_flag=True, help="Print what was measured as one booktabs table.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON.")
@wide_option
def command(
    folders: tuple[Path, ...], paper: bool, everything: bool, latex: bool, as_json: bool, wide: bool
) -> None:
    """Put what was measured beside what was published.

    Of FOLDERS, benchmarks fill the undefended figures and scores the defended ones. Only the paper's own networks count, by the
    architecture and weights that manifests record, with trained weights, on whole sources; what was left out is
    named with the reason. Figures the paper contradicts itself in are marked with ! and kept out of any difference.
    """
    if not paper:
        raise UsageError("say beside what: --paper is the only report so far")
    if latex and (as_json or everything):
        raise UsageError("--latex prints what was measured; leave out --json and --all")
    from afbench.report.paper_table import measured_records, paper_latex, paper_table
    from afbench.workflows.reporting.paper_comparison import compare_folders_with_paper

    report = compare_folders_with_paper(folders)
    records = report.records if everything else measured_records(report.records)
    if latex:
        echo(paper_latex(records, report.notes))
    elif as_json:
        echo(json.dumps(records, indent=2))
        for note in report.notes:
            echo(note, err=True)
    else:
        echo(paper_table(records, report.notes, table_width(wide)))
