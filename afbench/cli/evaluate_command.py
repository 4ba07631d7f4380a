"""``afbench evaluate``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from afbench.core import UsageError

from .echo import echo
from .image_score import chosen_score, image_score_option
from .name_types import DEFENCE, LOCALIZER_CHOICE
from .progress import deferred_bar, quiet_option
from .text_tables import table_width, wide_option

if TYPE_CHECKING:
    from afbench.localizers import LocalizerChoice
    from afbench.workflows.evaluation.evaluation_files import EvaluationReport
    from afbench.workflows.evaluation.evaluation_setup import Evaluations


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
def command(
    data: Path,
    localizers: tuple[LocalizerChoice, ...],
    localizer_name: str | None,
    defences: tuple[str, ...],
    after: tuple[str, ...],
    out: Path | None,
    picture: Path | None,
    samples: tuple[str, ...],
    sweep: bool,
    checkpoint: str | None,
    seed: int,
    device: str,
    batch_size: int | None,
    as_json: bool,
    image_score: str | None,
    wide: bool,
) -> int:
    """Print F1 and RP per source and attack, with and without defences, against attacks that know them or not.

    Oblivious figures are of the configs made against the bare localizer, adaptive ones of those made through the very
    defence with `afbench generate --through-defence`. Of several localizers table.tex is one table. Means are over images and settings, as in the ANSM paper's Table III; RP
    is in percent of what the bare localizer reaches on the originals.

    A benchmark with authentic images (`generate --authentic`) also gets figures of images as a whole, apart from F1: AUC and
    balanced accuracy of forged against authentic ones, and the share of authentic ones called forged.

    `--after` asks what survives publication: of attacks, and of the localizer.

    Several localizers are attackers and victims of a matrix: what attacks on one leave of another. Weights decide which cell is white-box.
    """
    from afbench.files import commit_bytes
    from afbench.images import png_bytes
    from afbench.workflows.evaluation import evaluation_files as files
    from afbench.workflows.evaluation.evaluation_figure import evaluation_figure
    from afbench.workflows.evaluation.evaluation_setup import open_evaluations
    from afbench.workflows.sample_choice import choose_samples

    files.check_targets(data, out, picture)
    if samples and picture is None:
        raise UsageError("--sample goes with --figure PATH.png")
    # a figure shows the masks of one localizer
    if picture is not None and len(localizers) > 1:
        raise UsageError("--figure goes with one --localizer")
    evaluations = open_evaluations(
        data,
        localizers=_with_options(localizers, checkpoint, localizer_name),
        defences=defences,
        after=after,
        seed=seed,
        device=device,
        batch_size=batch_size,
    )
    if samples:  # a wrong name ends the command before any work
        choose_samples(evaluations.setups[0].benchmark, (), names=samples)
    report = _evaluate_all(evaluations, sweep)
    if out is not None:
        files.write_evaluation(out, report)
    if picture is not None:
        commit_bytes(picture, png_bytes(evaluation_figure(evaluations.setups[0], samples=samples)))
    for line in report.warnings:
        echo(f"warning: {line}", err=True)
    score = chosen_score(report.image_level, image_score)
    if as_json:
        echo(json.dumps(report.as_json(), indent=2, allow_nan=False))
    else:
        _print(report, score, table_width(wide))
    # without --gates a failed gate is printed, but does not change the exit code
    return int(sweep and any(gate["passed"] is False for gate in report.gates))


def _with_options(
    localizers: Sequence[LocalizerChoice], checkpoint: str | None, localizer_name: str | None
) -> list[LocalizerChoice]:
    """Give the only localizer the checkpoint and the name of the options."""
    if checkpoint is None and localizer_name is None:
        return list(localizers)
    if len(localizers) > 1:
        raise UsageError(
            "--checkpoint and --localizer-name go with one --localizer; of several, write "
            "--localizer LABEL=NAME@CHECKPOINT"
        )
    (localizer,) = localizers
    if (checkpoint and localizer.checkpoint) or (localizer_name and localizer.label):
        raise UsageError(
            "--localizer LABEL=NAME@CHECKPOINT says what --checkpoint and --localizer-name say; give one"
        )
    return [
        localizer._replace(
            checkpoint=localizer.checkpoint if checkpoint is None else checkpoint,
            label=localizer_name or localizer.label,
        )
    ]


def _print(report: EvaluationReport, image_score: str, width: int | None) -> None:
    from afbench.report.evaluation import evaluation_table
    from afbench.report.gate_table import gate_table
    from afbench.report.image_table import image_table
    from afbench.report.transfer_tables import transfer_table
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
    echo("\n\n".join(tables))


def _evaluate_all(evaluations: Evaluations, sweep: bool) -> EvaluationReport:
    """Evaluate one localizer after the other, then several under the attacks on each other."""
    from afbench.report.weak import weak_images
    from afbench.scoring.statistics import few_images
    from afbench.workflows.evaluation.evaluate import evaluate
    from afbench.workflows.evaluation.evaluation_files import EvaluationReport, gate_json
    from afbench.workflows.evaluation.evaluation_records import evaluation_records, posted_records
    from afbench.workflows.evaluation.gates import gates_of_benchmark, sweep_gates
    from afbench.workflows.evaluation.image_records import image_records
    from afbench.workflows.evaluation.logit_scale import scale_gates, scale_warnings
    from afbench.workflows.evaluation.transfer import transfer_records, untrained_attackers

    report = EvaluationReport(warnings=evaluations.notes)
    bare_tables = {}
    for evaluation in evaluations.setups:
        with ExitStack() as stack:
            bar = deferred_bar(stack, f"evaluate {evaluation.name}", "img")
            result = evaluate(evaluation, start=bar.start, advance=bar.advance)
        report.figures += evaluation_records(result)
        report.posted += posted_records(result)
        report.image_level += image_records(result)
        # the first side is the bare localizer, on whose F1 every RP rests
        bare_tables[evaluation.name] = bare = result.sides[0].per_image
        report.warnings += [*weak_images(bare), *few_images(bare)]
        gate_checks = gates_of_benchmark(result)
        if sweep:
            with ExitStack() as stack:
                bar = deferred_bar(stack, "gates", "grad")
                gate_checks += sweep_gates(evaluation, start=bar.start, advance=bar.advance)
            with ExitStack() as stack:
                bar = deferred_bar(stack, "scaled logits", "grad")
                scale_checks = scale_gates(evaluation, start=bar.start, advance=bar.advance)
            gate_checks += scale_checks
            report.warnings += scale_warnings(scale_checks)
        report.gates += [gate_json(gate, evaluation.name) for gate in gate_checks]
    if evaluations.victims:
        with ExitStack() as stack:
            bar = deferred_bar(stack, "transfer", "img")
            report.transfer = transfer_records(
                evaluations.victims, bare_tables, start=bar.start, advance=bar.advance
            )
        report.warnings += untrained_attackers(evaluations.victims[0].benchmark)
    return report
