"""``afbench verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("verify", epilog="Example: afbench verify afbench-out/demo")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
def command(folder: Path, as_json: bool) -> int:
    """Check every file's hash, every row's count and pixels, and the L-inf bound. Exit code 1 if anything is bad."""
    from afbench.storage.verify import rows_to_check, verify

    from .progress import advancing, progress_bar

    with progress_bar("verify", "row", rows_to_check(folder)) as bar:
        problems = verify(folder, advancing(bar))
        checked = bar.n
    if as_json:
        click.echo(
            json.dumps({"rows": checked, "problems": [asdict(problem) for problem in problems]}, indent=2)
        )
    else:
        for problem in problems[:50]:
            click.echo(f"{problem.path}: {problem.message}")
        if len(problems) > 50:
            click.echo(f"... and {len(problems) - 50} more")
        click.echo(f"{folder}: {checked} rows checked, {len(problems)} problems")
    return 1 if problems else 0
