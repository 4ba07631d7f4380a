"""Build a leaderboard's site from score folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from afbench.report.site import render_site, write_site
from afbench.scoring.boards import build_boards
from afbench.scoring.stored_scores import StoredScore, find_scores, read_scores


class SiteCounts(NamedTuple):
    """How many submissions and boards a site shows, and how many submissions have a rank."""

    submissions: int
    boards: int
    ranked: int


def publish_leaderboard(
    paths: Sequence[Path], out: Path, *, advance: Callable[[int], None] = lambda scores: None
) -> SiteCounts:
    """Read scores, rank them and write the site; write nothing if a score is damaged.

    Args:
        paths: score folders, or folders of score folders.
        out: the site; its files are replaced one by one, and files that are not the site's stay.
        advance: called with 1 for each score that was read.
    Raises:
        UsageError: if a path holds no score, or scores cannot stand on one board.
        AfbenchError: if a score is damaged, or the site cannot be written.
    """
    scores: list[StoredScore] = []
    for score in read_scores(find_scores(paths)):
        scores.append(score)
        advance(1)
    boards = build_boards(scores)
    write_site(render_site(boards), out)
    ranked_submissions = sum(
        any(part["rank"] for part in submission["localizers"]) for submission in boards["submissions"]
    )
    return SiteCounts(len(scores), len(boards["boards"]), ranked_submissions)
