"""``afbench verify``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from afbench.api.bars import advancing

from .echo import echo
from .name_types import DEFENCE, SOURCE
from .progress import progress_bar, quiet_option


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
    "--through-defence",
    type=DEFENCE,
    metavar="NAME",
    help="What the attacks went through, where it is a defence of your own or one you trained.",
)
@click.option("--device", help="Where to compute. Default: cpu; with --repair the device in the log.")
@click.option("--json", "as_json", is_flag=True, help="Print the problems as JSON.")
@quiet_option
def command(
    folder: Path,
    fast: bool,
    deep: bool,
    repair: bool,
    sources: tuple[str, ...],
    localizer: str | None,
    checkpoint: str | None,
    through_defence: str | None,
    device: str | None,
    as_json: bool,
) -> int:
    """Check every file's size and hash and every row's count. Exit code 1 if anything is bad."""
    if fast and deep:
        raise click.UsageError("--fast and --deep are two ways to check; give one of them")
    from afbench.storage.manifests import holds_rows
    from afbench.storage.verify import check_benchmark, rows_to_check

    extra_results: dict[str, object] = {}
    if repair:
        from afbench.plans import parse_source
        from afbench.workflows.rerun.recorded_run import LocalizerSource
        from afbench.workflows.rerun.repair import repair as repair_folder

        # repair comes first, so that the check shows what is still wrong
        roots = {source.name: source.root for source in map(parse_source, sources)}
        with progress_bar("repair", "file") as bar:
            repaired = repair_folder(
                folder,
                sources=roots,
                localizer_source=LocalizerSource(localizer, checkpoint, device, through_defence),
                advance=bar.update,
            )
        extra_results = {"repaired": list(repaired.repaired), "not_repaired": dict(repaired.not_repaired)}
    unit = "row" if holds_rows(folder) else "file"
    with progress_bar("verify", unit, rows_to_check(folder)) as bar:
        checked = check_benchmark(
            folder, advancing(bar), level="fast" if fast else "deep" if deep else "default"
        )
    problems = checked.problems
    # a damaged row would fail again, and hide what scoring alone can find
    if deep and not problems:
        from afbench.workflows.rerun.recorded_run import LocalizerSource
        from afbench.workflows.rerun.rescore import rescore

        with progress_bar("score again", "row") as bar:
            rescored = rescore(
                folder,
                localizer_source=LocalizerSource(localizer, checkpoint, device, through_defence),
                advance=bar.update,
            )
        problems = list(rescored.problems)
        extra_results |= {"rescored": rescored.rows, "not_rescored": dict(rescored.left_out)}
    if as_json:
        summary = {
            "rows": checked.rows,
            "files": checked.files,
            "problems": [asdict(problem) for problem in problems],
            **extra_results,
        }
        echo(json.dumps(summary, indent=2))
    else:
        count = f"{checked.rows if unit == 'row' else checked.files} {unit}s"
        _echo(folder, count, [f"{problem.path}: {problem.message}" for problem in problems], extra_results)
    return 1 if problems else 0


def _echo(folder: Path, count: str, problems: list[str], extra_results: dict[str, object]) -> None:
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
    echo(f"{folder}: {count} checked, {len(problems)} problems")
