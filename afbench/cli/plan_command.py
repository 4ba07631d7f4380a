"""``afbench plan``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from afbench.api.generating import plan as forecast_run
from afbench.plans.cost import localizer_cost, suggested_batch
from afbench.plans.headline import STRONG
from afbench.reports.text import fold_line
from afbench.workflows.planning.forecast import Forecast

from .echo import echo
from .function_keywords import function_keywords
from .options import plan_options
from .text_tables import table_width


@click.command("plan", epilog="Example: afbench plan --plan ansm-table3")
@plan_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the benchmark, to leave out what is done. Default: as for `afbench generate`.",
)
@click.option(
    "--calibrate",
    is_flag=True,
    help="Measure for about 30 s what a gradient and a stored image take on --device, and say how long the plan takes.",
)
@click.option(
    "--device", default="cpu", show_default=True, help="Device for --calibrate: cpu, cuda, cuda:1, ..."
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Precision for --calibrate.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print the figures as JSON.")
def command(json_wanted: bool, device: str, **options: Any) -> None:
    """Print what a run would make, cost and store, and what of it is done. Needs no data and no weights; touches nothing."""
    echo_forecast(forecast_run(**function_keywords()), json_wanted, device)


def echo_forecast(forecast: Forecast, json_wanted: bool, device: str = "cpu") -> None:
    """Print a plan's figures; ``device`` is the one that was calibrated."""
    if json_wanted:
        echo(json.dumps(forecast.as_json(), indent=2))
        return
    plan = forecast.plan
    echo(
        f"plan {plan.name}, seed {plan.seed}"
        + (f", first {plan.limit} samples of each source" if plan.limit else "")
    )
    for planned, block in zip(plan.blocks, forecast.blocks, strict=True):
        ends_early = any(setting.attack == STRONG for setting in planned.settings)
        sources = ", ".join(
            f"{name} ({count if count is not None else '?'} expected)"
            for name, count in block.sources.items()
        )
        figures = {
            "localizers": ", ".join(block.localizers),
            "sources": sources,
            "configs": f"{block.configs} ({block.settings} settings each)",
            "adversarial images": _number(block.adversarial_images),
            "gradients per image": f"{block.gradients_naive} one setting at a time, {block.gradients_shared} shared",
            "gradients in all": _number(block.gradients_total)
            + f" at most: {STRONG} ends once F1 is 0" * ends_early,
            "disk": _size(block.disk_bytes),
        }
        _echo_figures(figures.items())
    _echo_figures(_totals(forecast, device))
    if forecast.missing_bytes > forecast.free_bytes:
        echo(
            f"warning: {_size(forecast.missing_bytes)} are missing and {_size(forecast.free_bytes)} are free; "
            "`afbench generate` refuses what does not fit: free some, or give another --out, --limit or fewer attacks",
            err=True,
        )


def _echo_figures(figures: Iterable[tuple[str, str]]) -> None:
    """Print an empty line, then each figure behind its label, folded to the terminal."""
    echo()
    for label, figure in figures:
        echo(fold_line(f"{label:19} {figure}", table_width(wide=False), " " * 20))


def _totals(forecast: Forecast, device: str) -> list[tuple[str, str]]:
    ranges = ", ".join(
        f"{precision} {_hours(low)} to {_hours(high)}" if high >= 1 / 60 else f"{precision} under a minute"
        for precision, (low, high) in (forecast.gpu_hours or {}).items()
    )
    images = sorted(
        {
            (
                load.localizer,
                suggested_batch(localizer_cost(load.localizer), load.pixels, device_type),
                device_type,
            )
            for load in forecast.workloads
            for device_type in ("cpu", "cuda")
        }
    )
    batches = "; ".join(
        f"{device_type} "
        + ", ".join(
            f"{name} {_range([b for n, b, o in images if (n, o) == (name, device_type)])}" for name in names
        )
        for device_type in ("cpu", "cuda")
        for names in [dict.fromkeys(load.localizer for load in forecast.workloads)]
    )
    rows = [
        ("arithmetic", _flop(forecast.gigaflops)),
        (
            "on one H100 or H200",
            f"{ranges} (uncalibrated: at 10 to 50 % of its peak)" if ranges else "unknown",
        ),
        *([(f"on {device}", f"{_hours(forecast.hours)} (calibrated)")] if forecast.hours is not None else []),
        ("images per batch", batches),
        (
            "memory",
            f"{_size(forecast.device_bytes['cuda'])} on a GPU and {_size(forecast.host_bytes)} beside it; "
            f"on a CPU {_size(forecast.device_bytes['cpu'] + forecast.host_bytes)}",
        ),
        ("free disk", _size(forecast.free_bytes)),
        (
            "limited by",
            ", ".join(
                f"{forecast.limited_by[device_type] or 'unknown'} on a {kind}"
                for device_type, kind in (("cpu", "CPU"), ("cuda", "GPU"))
            ),
        ),
    ]
    if forecast.done:
        gradients = _number(forecast.done.gradients_left)
        rows.append(
            (
                "done",
                f"{forecast.done.configs_done} configs done, {forecast.done.configs_left} left ({gradients} gradients)",
            )
        )
    return rows


def _number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def _range(values: list[int]) -> str:
    return str(values[0]) if min(values) == max(values) else f"{min(values)} to {max(values)}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return "unknown"
    if hours < 1 / 30:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:,.0f} h"


def _flop(gigaflops: float | None) -> str:
    if gigaflops is None:
        return "unknown: a localizer of your own, or a folder that was not opened"
    for unit, size in (("EFLOP", 1e9), ("PFLOP", 1e6), ("TFLOP", 1e3)):
        if gigaflops >= size:
            return f"{gigaflops / size:.1f} {unit}"
    return f"{gigaflops:.1f} GFLOP"


def _size(value: int | None) -> str:
    if value is None:
        return "unknown"
    return f"about {value / 1e9:.1f} GB" if value >= 1e9 else f"about {value / 1e6:.0f} MB"
