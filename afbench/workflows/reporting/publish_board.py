"""Build a leaderboard's site from score folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.plans.headline import headline_figures
from afbench.reports.site import render_site, write_site
from afbench.scoring.boards import build_boards
from afbench.scoring.stored_scores import StoredScore, find_scores, read_scores
from afbench.storage.manifests import refuse_inside_benchmark

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LeaderboardSite:
    """A site that was written: how many submissions and boards it shows, and how many submissions have a rank.

    ``rows`` has each submission on each localizer, the best of a localizer first: ``rank`` is None where it has none; ``f1`` and
    ``rp`` (in percent) are under the attack ``ranked_by``, with their intervals.
    """

    page: Path
    submissions: int
    boards: int
    ranked: int
    rows: Sequence[Mapping[str, Any]]

    def to_pandas(self) -> pd.DataFrame:
        """Return ``rows`` as a table."""
        import pandas as pd

        return pd.DataFrame(self.rows)


def publish_leaderboard(
    paths: Sequence[Path], out: Path, *, advance: Callable[[int], None] = lambda scores: None
) -> LeaderboardSite:
    """Read scores, rank them and write the site; write nothing if a score is damaged.

    Args:
        paths: score folders, or folders of score folders.
        out: the site; its files are replaced one by one, and files that are not the site's stay.
        advance: called with 1 for each score that was read.
    Raises:
        UsageError: if a path holds no score, or scores cannot stand on one board.
        AfbenchError: if a score is damaged, or the site cannot be written.
    """
    refuse_inside_benchmark(out, as_folder=True)
    scores: list[StoredScore] = []
    for score in read_scores(find_scores(paths)):
        scores.append(score)
        advance(1)
    boards = build_boards(scores)
    write_site(render_site(boards), out)
    rows = [
        _row(submission, part) for submission in boards["submissions"] for part in submission["localizers"]
    ]
    ranked_submissions = sum(
        any(part["rank"] for part in submission["localizers"]) for submission in boards["submissions"]
    )
    return LeaderboardSite(
        out / "index.html", len(scores), len(boards["boards"]), ranked_submissions, sorted(rows, key=_place)
    )


def _row(submission: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    figures = headline_figures(part["aggregates"])
    return {
        **{name: part[name] for name in ("localizer", "rank", "ranked_by")},
        **{name: submission[name] for name in ("submission_id", "display_name")},
        **{name: figures[name] for name in ("f1", "f1_ci", "rp", "rp_ci")},
        **{
            "date": submission["date"],
            "dataset_version": submission["dataset_version"],
            "page": submission["page"],
        },
    }


def _place(row: Mapping[str, Any]) -> tuple[str, bool, int]:
    """Order rows by localizer and rank, those without a rank last."""
    return row["localizer"], row["rank"] is None, row["rank"] or 0
