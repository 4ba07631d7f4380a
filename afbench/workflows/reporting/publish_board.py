"""From score folders to a leaderboard's site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from afbench.report.site import render_site, write_site
from afbench.scoring.boards import build_boards
from afbench.scoring.stored_scores import StoredScore, find_scores, read_score


class Published(NamedTuple):
    """How many submissions stand on how many boards, and how many have a rank."""

    submissions: int
    boards: int
    ranked: int


def publish_leaderboard(
    paths: Sequence[Path], out: Path, *, advance: Callable[[int], None] = lambda scores: None
) -> Published:
    """Read scores, rank them, and write the site; nothing is written unless all of them are sound.

    Args:
        paths: score folders, or folders of score folders.
        out: the site; its files are replaced one by one, and foreign ones stay.
        advance: told whenever a score was read.
    Raises:
        UsageError: if a path holds no score, or scores cannot stand on one board.
        AfbenchError: if a score is damaged, or the site cannot be written.
    """
    scores: list[StoredScore] = []
    for folder in find_scores(paths):
        scores.append(read_score(folder))
        advance(1)
    boards = build_boards(scores)
    write_site(render_site(boards), out)
    ranked = sum(any(part["rank"] for part in one["localizers"]) for one in boards["submissions"])
    return Published(len(scores), len(boards["boards"]), ranked)
