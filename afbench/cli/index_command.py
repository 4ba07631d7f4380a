"""``afbench index``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afbench.core import AfbenchError, PartialError, ReadOptions, UsageError
from afbench.naming import resolve_name, unknown_name
from afbench.resources import resource_json

from .echo import echo
from .name_types import SOURCE
from .progress import counted_bar, quiet_option
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
def command(
    source: str,
    root: Path | None,
    out: Path | None,
    as_json: bool,
    full: bool,
    on_mismatch: str,
    invert_masks: bool,
    invert_listed: Path | None,
    mask_threshold: int | None,
    mask_nonzero: bool,
    ignore_alpha: bool,
    max_side: int | None,
    authentic: bool,
    expect_count: int | None,
    workers: int | None,
) -> None:
    """Check a source file by file: what can be used, and what cannot and why."""
    from afbench.files import commit_bytes
    from afbench.sources import SourceOptions, default_root
    from afbench.sources.index import build_index
    from afbench.sources.index_records import index_text
    from afbench.sources.mask_exceptions import read_exceptions

    source = _indexed_source(source)
    if out is not None and (out.suffix.lower() != ".json" or not out.absolute().parent.is_dir()):
        raise UsageError(f"--out must be a .json file in a folder that exists; found '{out}'")
    read = ReadOptions(mask_threshold, mask_nonzero, ignore_alpha, max_side)
    options = SourceOptions(on_mismatch, invert_masks, authentic, read)  # type: ignore[arg-type]
    inverted_ids = read_exceptions(invert_listed) if invert_listed is not None else ()
    try:
        with ExitStack() as stack:
            index = build_index(
                source,
                root or default_root(source, "--root {root}"),
                options,
                workers=workers,
                full=full,
                on_progress=counted_bar(stack, source, "image"),
                inverted_ids=inverted_ids,
            )
    except KeyboardInterrupt:
        raise PartialError(
            "stopped; nothing was written, but what was read is kept: run the same command again"
        ) from None
    text = index_text(index)
    if out is not None:
        commit_bytes(out, text.encode())
    echo(text if as_json else _table(index), nl=not as_json)
    _check_index(index, expect_count)


def _indexed_source(text: str) -> str:
    """Return the canonical name of a source that is read from a root.

    Raises:
        UsageError: for another one.
    """
    from afbench.sources.layouts import LAYOUTS

    name = resolve_name("source", text, ("demo", "synthetic", *LAYOUTS))
    if name in ("demo", "synthetic"):
        raise UsageError(f"source '{name}' comes with afbench and needs no index")
    if name is None:
        hint = f"; give the root as --root {text.partition(':')[2]}" if ":" in text else ""
        raise unknown_name("source", text, LAYOUTS, hint)
    return name


def _table(index: Index) -> str:
    summary = index.summary
    lines = [
        f"source    {index.source}",
        # paths may hold characters that no terminal shows
        f"root      {ascii(index.root)[1:-1]}",
        f"included  {summary.included} forged"
        + (f", {summary.authentic} authentic" if index.options.authentic else ""),
        f"excluded  {sum(summary.excluded.values())}",
    ]
    width = max(map(len, summary.excluded), default=0)
    for reason, number in summary.excluded.items():
        ids = [sample.id for sample in index.samples if sample.reason == reason]
        advised = next(
            (sample for sample in index.samples if sample.reason == reason and " --" in sample.detail), None
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
    return "\n".join([*lines, f"sha256    {index.without_authentic().sha256}"])


def _first_exclusions(index: Index) -> str:
    """Describe the first exclusion of each reason in full, since its detail says what to do."""
    first = {sample.reason: sample for sample in reversed(index.samples) if not sample.included}
    return "; ".join(
        f"{sample.id}: {reason}, {sample.detail}" for reason, sample in sorted(first.items())[:FIRST_IDS]
    )


def _check_index(index: Index, expect_count: int | None) -> None:
    """Warn of what looks wrong; fail if no sample can be used, or if the count is not the expected one."""
    from afbench.sources.notes import index_notes

    summary, manifest = index.summary, resource_json("sources").get(index.source, {})
    for note in index_notes(index):
        echo(f"afbench: warning: {note}", err=True)
    if summary.expected is not None and summary.paired != summary.expected:
        paper_count = manifest.get("count_in_paper", summary.paired)
        paper = "" if paper_count == summary.paired else f" (the ANSM paper used {paper_count})"
        echo(
            f"afbench: warning: {summary.paired} forged images with masks were found, the published release of "
            f"{index.source} has {summary.expected}{paper}",
            err=True,
        )
    authentic = sum(sample.label == "authentic" for sample in index.samples)
    if index.options.authentic and authentic != manifest.get("count_authentic", authentic):
        echo(
            f"afbench: warning: {authentic} authentic images were found, the published release of "
            f"{index.source} has {manifest['count_authentic']}",
            err=True,
        )
    if not summary.included and not summary.authentic:
        raise AfbenchError(f"{index.source}: not one sample can be used ({_first_exclusions(index)})")
    if expect_count is not None and summary.included != expect_count:
        raise AfbenchError(
            f"{index.source}: {summary.included} forged samples are included, expected {expect_count} (--expect-count)"
        )
