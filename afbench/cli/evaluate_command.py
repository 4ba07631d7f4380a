"""``afbench evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afbench.api.evaluating import evaluate

from .echo import echo
from .function_keywords import function_keywords
from .image_score import image_score_option
from .name_types import DEFENCE, LOCALIZER_CHOICE
from .progress import quiet_option
from .text_tables import table_width, wide_option

if TYPE_CHECKING:
    from afbench.workflows.evaluation.evaluation_files import EvaluationReport


@click.command(
    "evaluate",
    epilog="Example: afbench evaluate --data afbench-out/demo --localizer reference --defence jpeg --defence median --out evaluation",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="A finished benchmark, of Parquet or HDF5 shards.",
)
@click.option(
    "--localizer",
    "localizers",
    type=LOCALIZER_CHOICE,
    required=True,
    multiple=True,
    metavar="[LABEL=]NAME[@CHECKPOINT]",
    help="What the benchmark's configs attacked; repeat to also judge each under attacks on the others (transfer), which may be localizers that no config attacked, as in second=reference@second.safetensors.",
)
@click.option(
    "--localizer-name", metavar="NAME", help="What the configs call it, if `generate` was told another name."
)
@click.option(
    "--defence",
    "defences",
    type=DEFENCE,
    multiple=True,
    metavar="NAME[:SETTING]",
    help="What stands in front of the localizer; repeat. As for `afbench predict`. The bare localizer is always shown.",
)
@click.option(
    "--after",
    multiple=True,
    metavar="STEP",
    help="Also score the bare localizer after this step of posting; repeat: jpeg:QUALITY, webp:QUALITY, resize:FACTOR, blur:SIGMA, chain:social.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for table.csv, table.tex and evaluation.json, with --after also after.csv and after.svg, with several localizers transfer.csv, transfer.tex and transfer.png.",
)
@click.option(
    "--figure",
    "picture",
    type=click.Path(path_type=Path),
    metavar="PATH.png",
    help="Also draw originals, attacked images and the masks found in them, bare and behind each defence.",
)
@click.option(
    "--sample",
    "samples",
    multiple=True,
    metavar="ID",
    help="Draw this sample; repeat. Default: five spread over the F1 of the originals.",
)
@click.option(
    "--gates",
    "sweep",
    is_flag=True,
    help="Also attack a few images through every defence with more steps and large phi, and check its gradients and whether a factor on the logits moves RP; a gate that fails gives exit code 1.",
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Weights of the localizer, if they are neither embedded nor registered.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of random defences.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--batch-size", type=click.IntRange(1), help="Images per batch. Default: as many as suit their size."
)
@click.option("--json", "as_json", is_flag=True, help="Print figures and gates as JSON on stdout.")
@image_score_option
@wide_option
@quiet_option
def command(sweep: bool, as_json: bool, wide: bool, **options: Any) -> int:
    """Print F1 and RP per source and attack, with and without defences, against attacks that know them or not.

    Oblivious figures are of the configs made against the bare localizer, adaptive ones of those made through the very
    defence with `afbench generate --through-defence`. Of several localizers table.tex is one table. Means are over images and settings, as in the ANSM paper's Table III; RP
    is in percent of what the bare localizer reaches on the originals.

    A benchmark with authentic images (`generate --authentic`) also gets figures of images as a whole, apart from F1: AUC and
    balanced accuracy of forged against authentic ones, and the share of authentic ones called forged.

    With `--after`, a second table shows F1 and RP on images that were posted: resized, blurred or compressed again.

    With several localizers, a matrix shows what attacks on one leave of another. A cell is white-box if both have the same weights.
    """
    report = evaluate(**function_keywords())
    for line in report.warnings:
        echo(f"warning: {line}", err=True)
    if as_json:
        echo(json.dumps(report.as_json(), indent=2, allow_nan=False))
    else:
        _print(report, options["image_score"], table_width(wide))
    # without --gates a failed gate is printed, but does not change the exit code
    return int(sweep and any(gate["passed"] is False for gate in report.gates))


def _print(report: EvaluationReport, image_score: str | None, width: int | None) -> None:
    from afbench.reports.evaluation import evaluation_table
    from afbench.reports.gate_table import gate_table
    from afbench.reports.image_table import image_table
    from afbench.reports.transfer_tables import transfer_table
    from afbench.workflows.evaluation.evaluation_files import as_columns

    tables = [evaluation_table(report.figures, width)] if report.figures else []
    if report.posted:
        tables.append(
            "after posting, without a defence; RP is in percent of F1 on the originals as stored\n"
            + evaluation_table(as_columns(report.posted), width)
        )
    if report.transfer:
        tables.append(
            "transfer: images attacked with the gradients of one localizer, judged by each; RP is in percent of its own F1 on the originals\n"
            + transfer_table(report.transfer, width)
        )
    if report.figures:
        sources = {record["source"] for record in report.figures}
        tables.append(image_table(report.image_level, image_score, sources, width))
        tables.append(gate_table(report.gates, width))
    echo("\n\n".join(filter(None, tables)))  # without a defence there are no gates
