"""``afbench plan``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from afbench.plan import RunPlan, estimate

from .options import build_plan, plan_options


@click.command("plan", epilog="Example: afbench plan --plan ansm-table3")
@plan_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(as_json: bool, **plan_arguments: Any) -> None:
    """Print what a run would make: images, configs, gradients alone and shared, disk. Needs no data and no weights."""
    echo_plan(build_plan(**plan_arguments), as_json)


def echo_plan(plan: RunPlan, as_json: bool) -> None:
    """Print a plan's figures; touches nothing but the listings of roots."""
    blocks = estimate(plan, _folder_counts(plan))
    if as_json:
        first = blocks[0]
        told = {
            "plan": plan.name,
            "gradients_per_image": {"naive": first.gradients_naive, "shared": first.gradients_shared},
            "blocks": [asdict(block) for block in blocks],
        }
        click.echo(json.dumps(told, indent=2))
        return
    click.echo(
        f"plan {plan.name}, seed {plan.seed}"
        + (f", first {plan.limit} samples of each source" if plan.limit else "")
    )
    for block in blocks:
        sources = ", ".join(
            f"{name} ({count if count is not None else '?'} expected)"
            for name, count in block.sources.items()
        )
        click.echo(f"\nlocalizers          {', '.join(block.localizers)}")
        click.echo(f"sources             {sources}")
        click.echo(f"configs             {block.configs} ({block.settings} settings each)")
        click.echo(f"adversarial images  {_number(block.adversarial_images)}")
        click.echo(
            f"gradients per image {block.gradients_naive} one setting at a time, {block.gradients_shared} shared"
        )
        click.echo(f"gradients in all    {_number(block.gradients_total)}")
        click.echo(f"disk                {_size(block.disk_bytes)}")


def _folder_counts(plan: RunPlan) -> dict[str, int]:
    from afbench.sources.index import count_source

    return {
        source.name: count_source(source.name, source.root)
        for block in plan.blocks
        for source in block.sources
        if source.root
    }


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _size(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"about {value / 1e9:.1f} GB" if value >= 1e9 else f"about {value / 1e6:.0f} MB"
