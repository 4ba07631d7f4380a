"""``afbench score``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import click

from afbench.api.submitting import score
from afbench.core import UsageError

from .echo import echo
from .image_score import image_score_option
from .progress import deferred_bar, is_quiet, quiet_option
from .text_tables import table_width, wide_option


@click.command("score", epilog="Example: afbench score submission --data afbench-out/demo --out score")
@click.argument("submission", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="The benchmark it predicts on, of Parquet or HDF5 shards.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of score.json and per_image.parquet.")
@click.option("--validate-only", is_flag=True, help="Check everything, write nothing.")
@click.option("--partial", is_flag=True, help="Score what is there; the score cannot be ranked.")
@click.option(
    "--board",
    type=click.Path(path_type=Path),
    help="Folder of score.json files; refuse predictions that one of them already has.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the score, or the problems, as JSON.")
@image_score_option
@wide_option
@quiet_option
def command(
    submission: Path,
    data: Path,
    out: Path | None,
    validate_only: bool,
    partial: bool,
    board: Path | None,
    as_json: bool,
    image_score: str | None,
    wide: bool,
) -> int:
    """Check a submission (a folder, .zip or .tar), compare its masks with the true ones, and print its scores.

    Every problem is named at once, with its code. Exit code 1 if there is one; nothing is written then.
    """
    from afbench.reports.image_table import image_table
    from afbench.reports.mixed_parameters import mixed_parameters
    from afbench.reports.score_table import score_table
    from afbench.reports.weak import weak_images
    from afbench.scoring.problems import InvalidSubmission
    from afbench.scoring.statistics import few_images
    from afbench.storage.manifests import open_benchmark

    # a score that is neither written nor waived is most likely a forgotten option
    if (out is None) != validate_only:
        raise UsageError("give either --out FOLDER or --validate-only")
    try:
        if validate_only:
            from afbench.scoring.score import examine

            with ExitStack() as stack:
                bar = deferred_bar(stack, "score", "img")
                examined = examine(
                    submission,
                    data,
                    partial=partial,
                    board=board,
                    image_score=image_score,
                    start=bar.start,
                    advance=bar.advance,
                )
            record, per_image = examined.as_json(), examined.per_image
        else:
            scored = score(
                submission,
                data,
                out=out,
                partial=partial,
                board=board,
                image_score=image_score,
                quiet=is_quiet(),
            )
            record, per_image = scored.score, scored.per_image
    except InvalidSubmission as invalid:
        # on stdout: the problems are the result of this command
        echo(json.dumps(invalid.as_json(), indent=2) if as_json else "\n".join(invalid.problems.lines()))
        echo(f"{submission}: invalid", err=True)
        return 1
    mixed = mixed_parameters(open_benchmark(data).configs, per_image["config"].unique())
    for line in [*weak_images(per_image), *few_images(per_image), *mixed]:
        echo(f"warning: {line}", err=True)
    if as_json:
        echo(json.dumps(record, indent=2))
    elif validate_only:
        for warning in record["warnings"]:
            echo(f"warning: {warning['message']}", err=True)
        echo(f"{submission}: valid, {record['masks']} masks")
    else:
        images, sources = record["image_level"], {row["source"] for row in record["configs"]}
        echo(score_table(record, table_width(wide)))
        echo("\n" + image_table(images, image_score, sources, table_width(wide)))
    return 0
