"""``afbench index``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afbench.api.indexing import IndexedSource, UnusableSource, index

from .echo import echo
from .function_keywords import function_keywords
from .name_types import SOURCE
from .progress import quiet_option
from .read_options import read_options

if TYPE_CHECKING:
    from afbench.sources.index_records import Index

FIRST_IDS = 3


@click.command("index", epilog="Example: afbench index folder --root photographs --json")
@click.argument("source", type=SOURCE)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Your copy of the source. Default: its folder in AFBENCH_DATA.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Write the index; --source NAME:FILE.json reads exactly what it lists.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the index as JSON.")
@click.option("--full", is_flag=True, help="Read every file, even those unchanged since the last index.")
@click.option(
    "--on-mismatch",
    type=click.Choice(["exclude", "resize-nearest"]),
    default="exclude",
    show_default=True,
    help="What to do with a mask of another size than its image.",
)
@click.option("--invert-masks", is_flag=True, help="Swap forged and authentic in every mask.")
@click.option(
    "--invert-listed",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Swap them in the masks of the samples that this text names, one id a line, as exceptions to the others.",
)
@read_options
@click.option("--authentic", is_flag=True, help="List authentic images too.")
@click.option(
    "--expect-count",
    type=click.IntRange(0),
    metavar="N",
    help="Exit with 1 unless N forged samples are included.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    help="Processes that read files. Default: one per core, at most 8.",
)
@quiet_option
def command(as_json: bool, **options: Any) -> None:
    """Check a source file by file: what can be used, and what cannot and why."""
    try:
        _echo(index(**function_keywords()), as_json)
    except UnusableSource as unusable:
        # what cannot be used is what the user needs to see
        _echo(unusable.indexed, as_json)
        raise


def _echo(indexed: IndexedSource, as_json: bool) -> None:
    from afbench.sources.index_records import index_text

    echo(index_text(indexed.index) if as_json else _table(indexed.index), nl=not as_json)
    for warning in indexed.warnings:
        echo(f"afbench: warning: {warning}", err=True)


def _table(source_index: Index) -> str:
    summary = source_index.summary
    lines = [
        f"source    {source_index.source}",
        # paths may hold characters that no terminal shows
        f"root      {ascii(source_index.root)[1:-1]}",
        f"included  {summary.included} forged"
        + (f", {summary.authentic} authentic" if source_index.options.authentic else ""),
        f"excluded  {sum(summary.excluded.values())}",
    ]
    width = max(map(len, summary.excluded), default=0)
    for reason, number in summary.excluded.items():
        ids = [sample.id for sample in source_index.samples if sample.reason == reason]
        advised = next(
            (sample for sample in source_index.samples if sample.reason == reason and " --" in sample.detail),
            None,
        )
        ellipsis = ", ..." if len(ids) > FIRST_IDS else ""
        lines.append(f"  {reason:<{width}}  {number:>5}  {', '.join(ids[:FIRST_IDS])}{ellipsis}")
        lines += [f"    {advised.id}: {advised.detail}"] if advised else []
    if shares := summary.mask_shares:
        lines.append(
            f"masks     {shares['min']:.1%} to {shares['max']:.1%} forged, median {shares['median']:.1%}; "
            f"{shares['above_50']} above 50 %, {shares['above_95']} above 95 %"
        )
    # a plan pins this hash, whether or not authentic images are asked for
    return "\n".join([*lines, f"sha256    {source_index.without_authentic().sha256}"])
