"""``afbench.evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.localizers import LocalizerChoice, parse_choice

from .bars import deferred_bar
from .keywords import Texts, require_choice, require_text, texts_of

if TYPE_CHECKING:
    from afbench.defences import Purifier
    from afbench.workflows.evaluation.evaluation_files import EvaluationReport
    from afbench.workflows.evaluation.evaluation_setup import Evaluations


@checks_arguments
def evaluate(
    *,
    data: str | Path,
    localizer: Texts | LocalizerChoice | Sequence[LocalizerChoice],
    localizer_name: str | None = None,
    defence: str | Purifier | Sequence[str | Purifier] = (),
    after: Texts = (),
    out: str | Path | None = None,
    figure: str | Path | None = None,
    sample: Texts = (),
    gates: bool = False,
    checkpoint: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
    image_score: str | None = None,
    quiet: bool = False,
) -> EvaluationReport:
    """Compute F1 and RP per source and attack, with and without defences, as ``afbench evaluate`` does.

    Args:
        data: a finished benchmark.
        localizer: what its configs attacked, ``[LABEL=]NAME[@CHECKPOINT]``; several are also judged under attacks on each other.
        localizer_name: what the configs call it, if ``generate`` was told another name.
        defence: what stands in front of the localizer, e.g. ``["jpeg", "median"]`` ``my_package.my_module:build``, or what
            ``afbench.as_defence`` made; the bare localizer is always there.
        after: also score the bare localizer after these steps of posting, e.g. ``jpeg:75``.
        out: folder for table.csv, table.tex, evaluation.json and others; omitted, nothing is written.
        figure: a .png to draw originals, attacked images and masks into.
        sample: samples to draw; omitted, five spread over the F1 of the originals.
        gates: also attack a few images through every defence, and check its gradients.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        seed: of random defences.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        batch_size: images per batch; omitted, as many as suit their size.
        image_score: a score of whole images that must be known, before anything is written: ``top1``, ``max``, ``share`` or ``own``.
        quiet: show no progress bar.
    Returns:
        An ``EvaluationReport``: ``figures``, ``gates`` (``passed`` is None where nothing could be checked), ``image_level``,
        ``posted``, ``transfer``, ``warnings``; ``to_pandas()`` has the figures. RP is in percent of F1 on the originals.
    Raises:
        UsageError: if the benchmark has no config of a localizer or attacked other weights, a path cannot be written to, or
            ``image_score`` is not known.
        AfbenchError: if the benchmark is damaged.
    """
    if image_score is not None:
        from afbench.scoring.image_level import IMAGE_SCORES

        require_choice("--image-score", image_score, IMAGE_SCORES)
    choices = _choices(localizer)
    defences = [defence] if isinstance(defence, str) or not isinstance(defence, Sequence) else defence
    from afbench.defences import Purifier
    from afbench.files import commit_bytes
    from afbench.images import png_bytes
    from afbench.scoring.image_level import require_score
    from afbench.workflows.evaluation import evaluation_files as files
    from afbench.workflows.evaluation.evaluation_figure import evaluation_figure
    from afbench.workflows.evaluation.evaluation_setup import open_evaluations, require_own_score
    from afbench.workflows.sample_choice import choose_samples

    for item in defences:
        if not isinstance(item, Purifier):
            require_text("defence", item, "`afbench.as_defence` makes one of a function")
    folder = None if out is None else Path(out)
    picture = None if figure is None else Path(figure)
    files.check_targets(folder, picture)
    samples = texts_of(sample)
    if samples and picture is None:
        raise UsageError("--sample goes with --figure PATH.png")
    # a figure shows the masks of one localizer
    if picture is not None and len(choices) > 1:
        raise UsageError("--figure goes with one --localizer")
    evaluations = open_evaluations(
        Path(data),
        localizers=_with_options(choices, checkpoint, localizer_name),
        defences=defences,
        after=texts_of(after),
        seed=seed,
        device=device,
        batch_size=batch_size,
    )
    if samples:  # a wrong name ends the work before it begins
        choose_samples(evaluations.setups[0].benchmark, (), names=samples)
    require_own_score(evaluations, image_score)
    report = _evaluate_all(evaluations, gates, quiet)
    require_score(report.image_level, image_score)
    if folder is not None:
        files.write_evaluation(folder, report)
    if picture is not None:
        commit_bytes(picture, png_bytes(evaluation_figure(evaluations.setups[0], samples=samples)))
    return report


def _choices(localizer: Texts | LocalizerChoice | Sequence[LocalizerChoice]) -> list[LocalizerChoice]:
    """Read localizers that are given as texts, and keep those that the command line has read.

    Raises:
        UsageError: for none.
    """
    # the command line's are tuples themselves
    items: list[str | LocalizerChoice] = (
        [localizer] if isinstance(localizer, str | LocalizerChoice) else [*localizer]
    )
    if not items:
        raise UsageError("localizer names no localizer; give one or several names")
    return [item if isinstance(item, LocalizerChoice) else parse_choice(item) for item in items]


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


def _evaluate_all(evaluations: Evaluations, sweep: bool, quiet: bool) -> EvaluationReport:
    """Evaluate one localizer after the other, then several under the attacks on each other."""
    from afbench.reports.mixed_parameters import mixed_parameters
    from afbench.reports.weak import weak_images
    from afbench.scoring.statistics import few_images
    from afbench.workflows.evaluation.config_gates import gates_of_benchmark
    from afbench.workflows.evaluation.evaluate import evaluate
    from afbench.workflows.evaluation.evaluation_files import EvaluationReport, gate_json
    from afbench.workflows.evaluation.evaluation_records import evaluation_records, posted_records
    from afbench.workflows.evaluation.gates import sweep_gates
    from afbench.workflows.evaluation.image_records import image_records
    from afbench.workflows.evaluation.logit_scale import scale_gates, scale_warnings
    from afbench.workflows.evaluation.transfer import transfer_records, untrained_attackers

    report = EvaluationReport(warnings=evaluations.notes)
    bare_tables = {}
    for evaluation in evaluations.setups:
        with ExitStack() as stack:
            bar = deferred_bar(stack, f"evaluate {evaluation.name}", "img", quiet=quiet)
            result = evaluate(evaluation, start=bar.start, advance=bar.advance)
        report.figures += evaluation_records(result)
        report.posted += posted_records(result)
        report.image_level += image_records(result)
        # the first side is the bare localizer, on whose F1 every RP rests
        bare_tables[evaluation.name] = bare = result.sides[0].per_image
        report.warnings += [*weak_images(bare), *few_images(bare)]
        judged = {name for side in result.sides for name in side.per_image["config"].unique()}
        report.warnings += mixed_parameters(evaluation.benchmark.configs, judged)
        gate_checks = gates_of_benchmark(result, evaluation.benchmark.configs)
        if sweep:
            with ExitStack() as stack:
                bar = deferred_bar(stack, "gates", "grad", quiet=quiet)
                gate_checks += sweep_gates(evaluation, start=bar.start, advance=bar.advance)
            with ExitStack() as stack:
                bar = deferred_bar(stack, "scaled logits", "grad", quiet=quiet)
                scale_checks = scale_gates(evaluation, start=bar.start, advance=bar.advance)
            gate_checks += scale_checks
            report.warnings += scale_warnings(scale_checks)
        report.gates += [gate_json(gate, evaluation.name) for gate in gate_checks]
    if evaluations.victims:
        with ExitStack() as stack:
            bar = deferred_bar(stack, "transfer", "img", quiet=quiet)
            report.transfer = transfer_records(
                evaluations.victims, bare_tables, start=bar.start, advance=bar.advance
            )
        report.warnings += untrained_attackers(evaluations.victims[0].benchmark)
    return report
