"""``afbench leaderboard``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.ranking import leaderboard

from .echo import echo
from .function_keywords import function_keywords
from .progress import quiet_option


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
def command(as_json: bool, **options: Any) -> None:
    """Make a static site of score folders, or of folders of them: a ranked table, and a page per submission.

    Needs no server: open index.html. One table per localizer and version of its configs.
    """
    site = leaderboard(**function_keywords())
    if as_json:
        counts = {name: getattr(site, name) for name in ("submissions", "boards", "ranked")}
        echo(json.dumps({"site": str(site.page), **counts}, indent=2))
        return
    echo(f"submissions {site.submissions}, ranked {site.ranked}, boards {site.boards}: {site.page}")
