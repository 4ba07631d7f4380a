"""``afbench.report``: figures and tables of benchmarks, scores and evaluations."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from afbench.argument_types import checks_arguments
from afbench.core import UsageError

from .bars import deferred_bar
from .keywords import Texts, require_count, texts_of

if TYPE_CHECKING:
    from afbench.workflows.reporting.paper_comparison import PaperComparison
    from afbench.workflows.reporting.write_report import WrittenReport

_FEWEST_IMAGES = 3


@overload
def report(
    folders: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    measure: bool = False,
    images: int = 48,
    defence: Texts = (),
    localizer: str | None = None,
    checkpoint: str | None = None,
    device: str = "cpu",
    paper: Literal[False] = False,
    quiet: bool = False,
) -> WrittenReport: ...
@overload
def report(
    folders: str | Path | Sequence[str | Path], *, paper: Literal[True], quiet: bool = False
) -> PaperComparison: ...
@checks_arguments
def report(
    folders: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    measure: bool = False,
    images: int = 48,
    defence: Texts = (),
    localizer: str | None = None,
    checkpoint: str | None = None,
    device: str = "cpu",
    paper: bool = False,
    quiet: bool = False,
) -> WrittenReport | PaperComparison:
    """Draw figures and tables for a paper into ``out``, or with ``paper`` put what was measured beside what was published.

    Args:
        folders: benchmarks, scores, and what ``afbench.evaluate(..., out=)`` wrote, that belong together.
        out: folder for index.html, which holds all figures, and for each as PNG, SVG, PDF and CSV; files of others stay.
        measure: also run the attacked localizers, for features in two dimensions and masks of examples.
        images: with ``measure`` images of each source whose features are drawn, spread from the lowest F1 of the originals to the
            highest.
        defence: with ``measure`` what purifies attacked images; omitted, the ansm that ships, for its localizer.
        localizer: with ``measure`` your own localizer, where it was attacked, as ``my_package.my_module:build``.
        checkpoint: with ``measure`` weights of the localizer, if they are neither embedded nor registered.
        device: with ``measure`` ``cpu``, ``cuda``, ``cuda:1``, ...
        paper: write nothing, and compare with the ANSM paper's Tables III to VI.
        quiet: show no progress bar.
    Returns:
        With ``out`` a ``WrittenReport``: ``page``, ``files``, ``missing`` (figures that lack their numbers, with the command that
        makes them); ``to_pandas()`` has F1 and RP, one row per source, attack and defence. With ``paper`` a ``PaperComparison``:
        ``records`` (all that the paper prints) and ``notes``; ``to_pandas()`` has one row per measurement beside what the paper
        prints, ``to_latex()`` the same as a booktabs table.
    Raises:
        UsageError: if a folder is none of these, they contradict each other, or ``out`` cannot hold a report.
        AfbenchError: if a folder is damaged.
    """
    if paper == (out is not None):
        raise UsageError(
            "give --out FOLDER for figures and tables, or --paper to print the paper's beside them"
        )
    defences = texts_of(defence)
    if not measure and (defences or localizer or checkpoint):
        raise UsageError("--defence, --localizer and --checkpoint go with --measure")
    if measure and out is None:
        raise UsageError("--measure goes with --out")
    require_count("--images", images, least=_FEWEST_IMAGES)
    paths = [Path(folder) for folder in ([folders] if isinstance(folders, str | Path) else folders)]
    if not paths:
        raise UsageError("folders names no folder; give a benchmark, a score or an evaluation, or several")
    if out is None:
        from afbench.workflows.reporting.paper_comparison import compare_folders_with_paper

        return compare_folders_with_paper(paths)
    from afbench.workflows.reporting.measure_options import MeasureOptions
    from afbench.workflows.reporting.write_report import write_report

    options = MeasureOptions(
        images=images,
        defences=defences or None,
        localizer=localizer,
        checkpoint=checkpoint,
        device=device,
    )
    with ExitStack() as stack:
        return write_report(
            paths,
            Path(out),
            measure=options if measure else None,
            measuring=deferred_bar(stack, "measure", "img", quiet=quiet),
            drawing=deferred_bar(stack, "draw", "figure", quiet=quiet),
        )
