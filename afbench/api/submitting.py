"""``afbench.predict``, ``afbench.score`` and ``afbench.export``: write a folder of masks, a score, another form of a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.work_progress import Progress

from .bars import deferred_bar
from .keywords import Texts, require_choice, require_text, texts_of

if TYPE_CHECKING:
    from afbench.defences import Purifier
    from afbench.scoring.score import Scored
    from afbench.workflows.evaluation.predict import Predicted
    from afbench.workflows.publishing.export import Exported


@checks_arguments
def predict(
    *,
    data: str | Path,
    localizer: str,
    out: str | Path,
    localizer_name: str | None = None,
    defence: str | Purifier = "none",
    adaptive: bool = False,
    seed: int = 0,
    checkpoint: str | None = None,
    name: str | None = None,
    author: Texts = (),
    date: str | None = None,
    probabilities: bool = False,
    device: str = "cpu",
    batch_size: int | None = None,
    quiet: bool = False,
) -> Predicted:
    """Run a localizer behind a defence over a benchmark, and write the submission that ``afbench.score`` takes.

    Covers every config made against the localizer, and the originals. Call it again to go on after an interruption, or to
    add the configs that the benchmark got since.

    Args:
        data: a finished benchmark.
        localizer: what the benchmark's configs attacked.
        out: the submission's folder.
        localizer_name: what the configs call it, if ``generate`` was told another name.
        defence: what stands in front of the localizer: a text as ``jpeg:75`` or ``my_package.my_module:build``, or what
            ``afbench.as_defence`` made.
        adaptive: predict on the configs whose attacks went through this defence.
        seed: of a random defence.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        name: what a leaderboard calls the submission.
        author: its authors.
        date: its date, ``YYYY-MM-DD``; omitted, today.
        probabilities: write 8-bit probability maps too, for auc and f1_best.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        batch_size: images per batch; omitted, as many as suit their size.
        quiet: show no progress bar.
    Returns:
        A ``Predicted``: ``images`` localized by this call, ``added`` configs, ``warnings``.
    Raises:
        UsageError: if the benchmark has no config of this localizer or attacked other weights, or the folder holds something else.
        PartialError: if another process predicts into the folder.
    """
    from afbench.defences import Purifier
    from afbench.workflows.evaluation.predict import predict as write_submission

    if not isinstance(defence, Purifier):
        require_text("defence", defence, "`afbench.as_defence` makes one of a function")
    with ExitStack() as stack:
        bar = deferred_bar(stack, "predict", "img", quiet=quiet)
        return write_submission(
            Path(data),
            Path(out),
            localizer=localizer,
            localizer_name=localizer_name,
            defence=defence,
            adaptive=adaptive,
            seed=seed,
            checkpoint=checkpoint,
            display_name=name,
            authors=texts_of(author),
            day=date,
            probabilities=probabilities,
            device=device,
            batch_size=batch_size,
            start=bar.start,
            advance=bar.advance,
        )


@checks_arguments
def score(
    submission: str | Path,
    data: str | Path,
    *,
    out: str | Path | None = None,
    partial: bool = False,
    board: str | Path | None = None,
    image_score: str | None = None,
    quiet: bool = False,
    start: Callable[[int], None] | None = None,
    advance: Callable[[int], None] | None = None,
) -> Scored:
    """Check a submission, count its masks against the truth, and say what it is worth, as ``afbench score`` does.

    Args:
        submission: a folder, .zip or .tar(.gz), as ``afbench.predict`` writes or made by hand.
        data: the benchmark it predicts on.
        out: folder of score.json and per_image.parquet; omitted, nothing is written.
        partial: score what is there; such a score cannot be ranked.
        board: folder of score.json files; refuse predictions that one of them already has.
        image_score: a score of whole images that must be known, before anything is written: ``top1``, ``max`` or ``share``.
        quiet: show no progress bar.
        start: called with the number of images to count; ``start`` and ``advance`` take the place of the bar.
        advance: called with the number of images just counted.
    Returns:
        A ``Scored``: ``score`` as score.json holds it, ``per_image`` and ``to_pandas()`` the counts and F1 of every mask, ``warnings``.
    Raises:
        InvalidSubmission: an ``AfbenchError`` whose ``problems`` are all that is wrong.
        UsageError: if a path is none of what it should be, or ``image_score`` is not known.
        AfbenchError: if the benchmark is damaged, or of untrained weights.
    """
    from afbench.scoring.image_level import IMAGE_SCORES
    from afbench.scoring.score import score as score_submission

    if image_score is not None:
        require_choice("--image-score", image_score, IMAGE_SCORES)
    with ExitStack() as stack:
        bar = deferred_bar(stack, "score", "img", quiet=quiet)
        if start or advance:  # the caller listens instead
            bar = Progress()
        return score_submission(
            submission,
            data,
            out=out,
            partial=partial,
            board=board,
            image_score=image_score,
            start=start or bar.start,
            advance=advance or bar.advance,
        )


@checks_arguments
def export(
    folder: str | Path,
    *,
    to: str,
    out: str | Path,
    config: Texts = (),
    with_originals: bool | None = None,
    quiet: bool = False,
) -> Exported:
    """Write a benchmark in another form, with BagIt and Croissant files; call it again to go on after an interruption.

    Args:
        folder: a finished benchmark.
        to: ``hdf5`` (an archive of what was changed, several times smaller), ``parquet`` or ``hdf5-benchmark`` (a benchmark with such
            shards), ``imagefolder`` or ``webdataset``.
        out: a new folder.
        config: take only these configs and the originals; omitted, all.
        with_originals: with ``hdf5``, keep the originals (True) or leave them out (False); omitted, keep them, except those of
            sources that may not be shared.
        quiet: show no progress bar.
    Returns:
        An ``Exported``: ``folder``, ``configs``, ``images``, ``files``, ``bytes``, ``restricted`` and ``withheld`` sources, ...
    Raises:
        UsageError: if there is no such benchmark, config or form, or the folder holds something else.
        AfbenchError: if the benchmark is damaged, or a file cannot be written.
    """
    from afbench.workflows.publishing.export import export as write_export

    with ExitStack() as stack:
        bar = deferred_bar(stack, "export", "img", quiet=quiet)
        return write_export(
            Path(folder),
            Path(out),
            to,
            configs=texts_of(config),
            with_originals=with_originals,
            start=bar.start,
            advance=bar.advance,
        )
