"""``afbench generate``."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from afbench.workflows.request import Hooks, Options, check_request

from .options import build_plan, default_out, plan_options
from .plan_command import echo_plan
from .progress import progress_bar


@click.command(
    "generate",
    epilog="Example: afbench generate --localizer reference --attack cw --steps 250 --limit 4 --out build/example",
)
@plan_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the benchmark. Default: afbench-out/<plan, or localizer-source>.",
)
@click.option("--checkpoint", metavar="PATH", help="Weights of the localizer; 'random' for untrained ones.")
@click.option(
    "--localizer-name", metavar="NAME", help="What configs call the localizer, e.g. for other weights."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the localizer; recorded.",
)
@click.option(
    "--batch-size", type=int, default=16, show_default=True, help="Images per launch of the localizer."
)
@click.option("--shard-size", type=int, help="Samples per shard, the unit that is committed. Default: 64.")
@click.option(
    "--image-format",
    type=click.Choice(["webp", "png"]),
    default="webp",
    show_default=True,
    help="Lossless format of stored images.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
def command(
    out: Path | None,
    checkpoint: str | None,
    localizer_name: str | None,
    device: str,
    precision: str,
    batch_size: int,
    shard_size: int | None,
    image_format: str,
    dry_run: bool,
    as_json: bool,
    **plan_arguments: Any,
) -> None:
    """Attack a source with every setting asked for, and store, score and describe the result.

    Run it again to resume or to add configs; what is finished is not touched.
    """
    plan = build_plan(**plan_arguments)
    if dry_run:
        echo_plan(plan, as_json)
        return
    folder = out or default_out(plan)
    options = Options(checkpoint, localizer_name, device, precision, batch_size, shard_size, image_format)  # type: ignore[arg-type]
    check_request(
        plan, folder, options
    )  # what is wrong is said before torch is imported, which takes seconds
    from afbench.workflows.generate import generate

    with ExitStack() as stack:
        outcome = generate(plan, folder, options, _hooks(plan.name, stack))
    if as_json:
        told = {
            "folder": str(outcome.folder),
            "configs": list(outcome.configs),
            "shards_written": outcome.shards_written,
            "gradients": outcome.gradients,
            "excluded": dict(outcome.excluded),
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(
        f"{len(outcome.configs)} configs in {folder} ({outcome.shards_written} shards written, {outcome.gradients} gradients)"
    )
    for reason, number in outcome.excluded.items():
        click.echo(f"excluded: {number} {reason}")
    click.echo(f'next: afbench stats {folder}; datasets.load_dataset("{folder}", "{outcome.configs[0]}")')


def _hooks(name: str, stack: ExitStack) -> Hooks:
    """Show a bar from the moment the work is known; it is closed with the stack."""
    bars: list[Any] = []

    def start(gradients: int) -> None:
        bars.append(stack.enter_context(progress_bar(name, "grad", gradients)))

    def advance(gradients: int) -> None:
        bars[-1].update(gradients)

    def say(line: str) -> None:
        bars[-1].write(line, file=sys.stderr)

    return Hooks(start, advance, say)
