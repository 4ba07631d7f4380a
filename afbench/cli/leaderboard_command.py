"""``afbench leaderboard``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from afbench.api.bars import advancing

from .echo import echo
from .progress import progress_bar, quiet_option


@click.command("leaderboard", epilog="Example: afbench leaderboard scores --out site")
@click.argument("scores", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the site. Its pages are replaced one by one; files of others stay.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
@quiet_option
def command(scores: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Make a static site of score folders, or of folders of them: a ranked table, and a page per submission.

    Needs no server: open index.html. One table per localizer and version of its configs.
    """
    from afbench.workflows.reporting.publish_board import publish_leaderboard

    with progress_bar("read", "score") as bar:
        site = publish_leaderboard(scores, out, advance=advancing(bar))
    if as_json:
        echo(json.dumps({"site": str(out / "index.html"), **site._asdict()}, indent=2))
        return
    echo(f"submissions {site.submissions}, ranked {site.ranked}, boards {site.boards}: {out / 'index.html'}")
