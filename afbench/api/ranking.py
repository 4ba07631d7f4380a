"""``afbench.compare`` and ``afbench.leaderboard``: what scores say beside one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError

from .bars import advancing, progress_bar

if TYPE_CHECKING:
    import pandas as pd

    from afbench.workflows.reporting.publish_board import LeaderboardSite


@dataclass(frozen=True)
class ScoreComparison:
    """Two scores on the same images: ``figures`` as ``afbench compare --json`` prints them, and ``warnings``."""

    figures: Mapping[str, Any]
    warnings: Sequence[str]

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per localizer and attack: ``rows`` (images), ``f1_first``, ``f1_second``, ``f1_difference``, ``f1_low``,
        ``f1_high``, ``f1_tie``, and the same of ``rp``.
        """
        import pandas as pd

        return pd.json_normalize(list(self.figures["attacks"]), sep="_")


@checks_arguments
def compare(first: str | Path, second: str | Path) -> ScoreComparison:
    """Compare two score folders image by image: F1 and RP, first minus second, and whether they tie.

    Args:
        first: a folder that ``afbench.score(..., out=)`` wrote.
        second: another one, of the same dataset version and the same images.
    Returns:
        A ``ScoreComparison``; ``to_pandas()`` has one row per localizer and attack (``all``, ``clean``, and each): F1 in [0, 1] and
        RP in percent, their differences, and the 95 % intervals of these, a bootstrap over images, paired by sample and
        stratified by source. Two scores tie where the interval holds 0.
    Raises:
        UsageError: if a folder holds no score, or the scores are of different versions or images.
        AfbenchError: if a score is damaged.
    """
    from afbench.scoring.compare import compare as compare_scores
    from afbench.scoring.compare import comparison_json
    from afbench.scoring.statistics import few_images
    from afbench.scoring.stored_scores import read_scores

    first_score, second_score = read_scores([Path(first), Path(second)])
    results = compare_scores(first_score, second_score)
    return ScoreComparison(
        comparison_json(first_score, second_score, results), few_images(first_score.per_image)
    )


@checks_arguments
def leaderboard(
    scores: str | Path | Sequence[str | Path], *, out: str | Path, quiet: bool = False
) -> LeaderboardSite:
    """Make a static site of score folders: a ranked table, and a page per submission; it needs no server.

    Args:
        scores: folders that ``afbench.score(..., out=)`` wrote, or folders of such folders.
        out: folder of the site. Its pages are replaced one by one; files of others stay.
        quiet: show no progress bar.
    Returns:
        A ``LeaderboardSite``: ``page`` (the first one), ``submissions``, ``boards`` and ``ranked`` (counts); ``to_pandas()`` has one
        row per submission and localizer, with its rank, F1 and RP.
    Raises:
        UsageError: if a path holds no score, or scores cannot stand on one board.
        AfbenchError: if a score is damaged, or the site cannot be written.
    """
    from afbench.workflows.reporting.publish_board import publish_leaderboard

    paths = [scores] if isinstance(scores, str | Path) else scores
    if not paths:
        raise UsageError("scores names no folder; give the folder of a score, or several")
    with progress_bar("read", "score", quiet=quiet) as bar:
        return publish_leaderboard([Path(path) for path in paths], Path(out), advance=advancing(bar))
