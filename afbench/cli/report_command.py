"""``afbench report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afbench.api.reporting import report
from afbench.core import UsageError

from .echo import echo
from .function_keywords import function_keywords
from .name_types import DEFENCE
from .progress import quiet_option
from .text_tables import table_width, wide_option

if TYPE_CHECKING:
    from afbench.workflows.reporting.paper_comparison import PaperComparison
    from afbench.workflows.reporting.write_report import WrittenReport


@click.command("report", epilog="Example: afbench report afbench-out/demo --out report")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for index.html, which holds all figures, and for each as PNG, SVG, PDF and CSV. Files of others stay.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Also run the attacked localizers, for features in two dimensions and masks of examples. Without it the page says what that costs.",
)
@click.option(
    "--images",
    type=click.IntRange(3),
    default=48,
    show_default=True,
    help="With --measure: images of each source whose features are drawn, spread from the lowest F1 of the originals to the highest.",
)
@click.option(
    "--defence",
    "defences",
    type=DEFENCE,
    multiple=True,
    metavar="NAME[:SETTING]",
    help="With --measure: what purifies attacked images; repeat. Default: the ansm that ships, for its localizer.",
)
@click.option(
    "--localizer",
    metavar="MODULE:FUNCTION",
    help="With --measure: your own localizer, where it was attacked.",
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="With --measure: weights of the localizer, if they are neither embedded nor registered.",
)
@click.option("--device", default="cpu", show_default=True, help="With --measure: cpu, cuda, cuda:1, ...")
@click.option(
    "--paper", is_flag=True, help="Print the figures beside those of the ANSM paper's Tables III to VI."
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="With --paper: also print the paper's figures that nobody measured.",
)
@click.option("--latex", is_flag=True, help="With --paper: print what was measured as one booktabs table.")
@click.option("--json", "as_json", is_flag=True, help="Print the records, or what was written, as JSON.")
@wide_option
@quiet_option
def command(everything: bool, latex: bool, as_json: bool, wide: bool, **options: Any) -> None:
    """Draw figures and tables for a paper, or put what was measured beside what was published.

    FOLDERS are benchmarks, scores, and what `afbench evaluate --out` wrote; a report takes all that belong together.
    What is missing for a figure is named with the command that makes it.

    With --paper, benchmarks fill the undefended figures and scores the defended ones. Only the paper's own networks count, by the
    architecture and weights that manifests record, with trained weights, on whole sources; what was left out is
    named with the reason. Figures in which the paper contradicts itself are marked with ! and have no difference.
    """
    if not options["paper"] and (everything or latex):
        raise UsageError("--all and --latex go with --paper; with --out every table is written as LaTeX, too")
    if latex and (as_json or everything):
        raise UsageError("--latex prints what was measured; leave out --json and --all")
    result = report(**function_keywords())
    if options["paper"]:
        _echo_beside_paper(result, everything, latex, as_json, table_width(wide))
    else:
        _echo_written(result, as_json)


def _echo_written(written: WrittenReport, as_json: bool) -> None:
    if as_json:
        missing = [gap._asdict() for gap in written.missing]
        echo(json.dumps({"page": str(written.page), "files": written.files, "missing": missing}, indent=2))
        return
    for gap in written.missing:
        echo(f"not in the report: {gap.title}: {gap.reason} {gap.command}".rstrip(), err=True)
    echo(f"{len(written.files)} files: {written.page}")


def _echo_beside_paper(
    comparison: PaperComparison, everything: bool, latex: bool, as_json: bool, width: int | None
) -> None:
    from afbench.reports.paper_table import paper_table

    records = comparison.records if everything else comparison.measured
    if latex:
        echo(comparison.to_latex())
    elif as_json:
        echo(json.dumps(records, indent=2))
        for note in comparison.notes:
            echo(note, err=True)
    else:
        echo(paper_table(records, comparison.notes, width))
