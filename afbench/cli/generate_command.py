"""``afbench generate``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from afbench.workflows.request import Hooks, Options, check_request

from .options import build_plan, default_out, plan_options
from .plan_command import echo_plan
from .progress import counted_bar, deferred_bar


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
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Weights of the localizer, as released or registered with `afbench weights add`; 'random' for untrained ones.",
)
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
    "--batch-size", type=int, help="Images per launch of the localizer. Default: as many as suit their size."
)
@click.option(
    "--shard-size",
    type=int,
    help="Samples per shard, the unit that is committed; fewer where it might pass 500 MB. Default: 64.",
)
@click.option(
    "--image-format",
    type=click.Choice(["webp", "png"]),
    default="webp",
    show_default=True,
    help="Lossless format of stored images.",
)
@click.option(
    "--attack-at",
    type=click.Choice(["native", "model"]),
    default="native",
    show_default=True,
    help="Keep the size of the originals (phi holds on what is stored and resized later), or store and attack them at the size the localizer resizes to, as the ANSM paper does.",
)
@click.option(
    "--authentic",
    is_flag=True,
    help="Also store the sources' authentic images, unattacked, as config 'authentic', for false-positive rates.",
)
@click.option(
    "--through-defence",
    metavar="NAME[:SETTING]",
    help="Attack the localizer together with this defence, as one who knows it would: jpeg:75, median, ansm, ansm:CHECKPOINT, ... Exact gradients, their mean over fixed draws where it is random (EOT), the identity where it has none (BPDA). Configs are called <localizer>_<defence>-<attack>-<setting>.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Make the shards anew that lack samples whose attack failed (NaN gradients, out of memory); others are not touched.",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Threads that decode and encode images beside the attack; 0 for none. Default: one a processor.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=True,
    show_default=True,
    help="On a GPU take only kernels that give the same bytes again; without, some are faster. Every shard records which (L1 or L2; on a CPU L0).",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Run the localizer through torch.compile: minutes before the first image, other bytes; recorded.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
def command(
    out: Path | None,
    checkpoint: str | None,
    localizer_name: str | None,
    device: str,
    precision: str,
    batch_size: int | None,
    shard_size: int | None,
    image_format: str,
    attack_at: str,
    authentic: bool,
    through_defence: str | None,
    retry_failed: bool,
    workers: int | None,
    deterministic: bool,
    compiled: bool,
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
    options = Options(
        checkpoint,
        localizer_name,
        device,
        precision,
        batch_size,
        shard_size,
        image_format,  # type: ignore[arg-type]
        attack_at,  # type: ignore[arg-type]
        authentic,
        through_defence,
        retry_failed,
        workers,
        deterministic,
        compiled,
    )
    # what is wrong is said before torch is imported, which takes seconds
    check_request(plan, folder, options)
    from afbench.workflows.generate import generate

    with ExitStack() as stack:
        hooks = Hooks(*deferred_bar(stack, plan.name, "grad"), counted_bar(stack, "index", "image"))
        outcome = generate(plan, folder, options, hooks)
    for source, terms in outcome.restricted.items():
        click.echo(
            f"{source}: {terms}. {folder} holds its pixels, also in the attacked images: keep it to yourself",
            err=True,
        )
    if as_json:
        told = {
            "folder": str(outcome.folder),
            "configs": list(outcome.configs),
            "shards_written": outcome.shards_written,
            "gradients": outcome.gradients,
            "excluded": dict(outcome.excluded),
            "restricted": dict(outcome.restricted),
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(
        f"{len(outcome.configs)} configs in {folder} ({outcome.shards_written} shards written, {outcome.gradients} gradients)"
    )
    for reason, number in outcome.excluded.items():
        click.echo(f"excluded: {number} {reason}")
    click.echo(f'next: afbench stats {folder}; datasets.load_dataset("{folder}", "{outcome.configs[0]}")')
