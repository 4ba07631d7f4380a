"""``afbench.inspect``, ``afbench.reproduce`` and ``afbench.preview``: look into a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.storage.manifests import refuse_inside_benchmark

from .bars import progress_bar
from .keywords import Texts, texts_of

if TYPE_CHECKING:
    from PIL import Image

    from afbench.workflows.rerun.reproduce import Reproduced

MOST_SAMPLES = 64


@checks_arguments
def inspect(folder: str | Path, *, config: str | None = None, sample: str | None = None) -> dict[str, Any]:
    """Say what a benchmark holds, how a config was made, or where one row comes from.

    Args:
        folder: a finished benchmark or archive.
        config: look into one config: how it was made, and its shards.
        sample: the whole provenance of a sample's row, or of its rows in all configs.
    Returns:
        Plain data, as ``afbench inspect --json`` prints it: ``folder``, ``splits``, ``configs``; with ``config`` its manifest, with
        ``sample`` its ``rows``.
    Raises:
        UsageError: if the folder is no finished benchmark, or there is no such config or sample.
        AfbenchError: if a manifest or a shard is damaged.
    """
    from afbench.storage.contents import inspect as read_contents

    return read_contents(Path(folder), config=config, sample_id=sample)


@checks_arguments
def reproduce(
    folder: str | Path,
    *,
    row: str,
    alone: bool = False,
    localizer: str | None = None,
    checkpoint: str | None = None,
    attack: Texts = (),
    through_defence: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Reproduced:
    """Make one row again as it was made, in the same batch, and compare the pixels.

    Args:
        folder: a finished benchmark.
        row: which one, as ``CONFIG/SPLIT/SAMPLE_ID``.
        alone: run the row by itself instead of in the batch that made it; in float32 that may move single levels.
        localizer: the localizer, where it is your own, as ``my_package.my_module:build``.
        checkpoint: weights of the localizer, where they are not registered.
        attack: attacks of your own that made configs, as ``my_package.my_module:build``.
        through_defence: what the attacks went through, where it is a defence of your own or one you trained.
        device: where to compute; omitted, the device in the log.
        quiet: show no progress bar.
    Returns:
        A ``Reproduced``: ``identical``; ``levels`` is the largest difference, ``values`` of ``of`` values differ; ``image_sha256``,
        ``batch`` and ``differs`` (why); ``to_pandas()`` has it as one row.
    Raises:
        UsageError: if there is no such row, or its localizer is not at hand.
        AfbenchError: if its original or the row is damaged, or the attack fails.
    """
    from afbench.workflows.rerun.recorded_run import LocalizerSource
    from afbench.workflows.rerun.reproduce import reproduce as make_again

    with progress_bar("reproduce", "grad", quiet=quiet) as bar:
        return make_again(
            Path(folder),
            row,
            alone=alone,
            localizer_source=LocalizerSource(
                localizer, checkpoint, device, through_defence, texts_of(attack)
            ),
            advance=bar.update,
        )


@checks_arguments
def preview(
    folder: str | Path,
    *,
    config: Texts = (),
    split: str | None = None,
    sample: Texts = (),
    count: int = 1,
    checkpoint: str | None = None,
    localizer: str | None = None,
    out: str | Path | None = None,
) -> Image.Image:
    """Draw a contact sheet: original, attacked, noise x40, mask, and what was found before and after.

    Args:
        folder: a finished benchmark.
        config: configs to show; omitted, the strongest of every attack.
        split: which source; omitted, the samples' own, else the first.
        sample: samples to show.
        count: without ``sample`` how many to show per config (1 to 64), spread from the lowest F1 of the originals to the highest;
            1 is the median.
        checkpoint: weights of the attacked localizer, if they are neither embedded nor registered.
        localizer: your own localizer, where it was attacked, as ``my_package.my_module:build``.
        out: a .png to write it to; omitted, nothing is written.
    Returns:
        A Pillow image, which a notebook shows.
    Raises:
        UsageError: if the folder is no finished benchmark, a name is unknown, the weights are not those attacked, or ``out`` cannot be.
        AfbenchError: if a shard is damaged.
    """
    folder, path = Path(folder), None if out is None else Path(out)
    if path is not None:
        _check_target(path)
    if not 1 <= count <= MOST_SAMPLES:
        raise UsageError(f"--count must be from 1 to {MOST_SAMPLES}; found {count}")
    from afbench.files import commit_bytes
    from afbench.images import png_bytes
    from afbench.workflows.reporting.preview import preview as draw_sheet

    sheet = draw_sheet(
        folder,
        configs=texts_of(config),
        split=split,
        samples=texts_of(sample),
        count=count,
        checkpoint=checkpoint,
        localizer=localizer,
    )
    if path is not None:
        commit_bytes(path, png_bytes(sheet))
    return sheet


def _check_target(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out must end in .png; found '{path}'")
    # verify would report the picture as a file that does not belong there
    refuse_inside_benchmark(path)
