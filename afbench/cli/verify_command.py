"""``afbench verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from afbench.api.checking import Verified, verify

from .echo import echo
from .function_keywords import function_keywords
from .name_types import DEFENCE, SOURCE
from .progress import quiet_option


@click.command("verify", epilog="Example: afbench verify afbench-out/demo")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--fast", is_flag=True, help="Sizes, counts and the list of files only; nothing is hashed.")
@click.option(
    "--deep",
    is_flag=True,
    help="Also decode every image, check its bound and compute its figures again; the localizer scores it again.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="First make damaged or missing files again, byte for byte; files that do not belong are only named.",
)
@click.option(
    "--source",
    "sources",
    type=SOURCE,
    multiple=True,
    metavar="NAME[:ROOT]",
    help="With --repair: your copy of a source, for damaged originals.",
)
@click.option("--localizer", metavar="MODULE:FUNCTION", help="The localizer, where it is your own.")
@click.option("--checkpoint", metavar="PATH", help="Weights of the localizer, where they are not registered.")
@click.option(
    "--attack",
    "attacks",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="With --repair: an attack of your own that made configs; repeat for several.",
)
@click.option(
    "--through-defence",
    type=DEFENCE,
    metavar="NAME",
    help="What the attacks went through, where it is a defence of your own or one you trained.",
)
@click.option("--device", help="Where to compute. Default: cpu; with --repair the device in the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@quiet_option
def command(as_json: bool, **options: Any) -> int:
    """Check every file's size and hash and every row's count. Exit code 1 if anything is bad."""
    checked = verify(**function_keywords())
    # what was not asked for is None
    extra_results = {
        name: value
        for name in ("repaired", "not_repaired", "rescored", "not_rescored")
        if (value := getattr(checked, name)) is not None
    }
    if as_json:
        summary = {
            "rows": checked.rows,
            "files": checked.files,
            "problems": [asdict(problem) for problem in checked.problems],
            **extra_results,
        }
        echo(json.dumps(summary, indent=2))
    else:
        count = f"{checked.rows} rows" if checked.holds_rows else f"{checked.files} files"
        _echo(checked, count, extra_results)
    return 0 if checked.passed else 1


def _echo(checked: Verified, count: str, extra_results: dict[str, object]) -> None:
    problems = [f"{problem.path}: {problem.message}" for problem in checked.problems]
    for title, value in extra_results.items():
        words = title.replace("_", " ")
        if isinstance(value, dict):
            for name, reason in value.items():
                echo(f"{words}: {name}: {reason}")
        elif isinstance(value, list):
            for name in value:
                echo(f"{words}: {name}")
        else:
            echo(f"{words}: {value} rows")
    # a damaged disk may give thousands; --json has them all
    for line in problems[:50]:
        echo(line)
    if len(problems) > 50:
        echo(f"... and {len(problems) - 50} more")
    echo(f"{checked.folder}: {count} checked, {len(problems)} problem{'s' * (len(problems) != 1)}")
