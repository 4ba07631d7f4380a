"""``afbench check-attack``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from afbench.core import UsageError
from afbench.report.text import fold_line

from .echo import echo
from .text_tables import table_width, wide_option


@click.command("check-attack", epilog="Example: afbench check-attack afbench.engine.example_attack:build")
@click.argument("name", metavar="MODULE:FUNCTION[:NAME=VALUE...]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@wide_option
def command(name: str, as_json: bool, wide: bool) -> int:
    """Try an attack of your own under the properties of the attacks that ship.

    MODULE:FUNCTION is called without arguments and returns an attack; afbench.as_attack makes one of a function. It runs on a
    small random localizer with images of 12x8 pixels: bounds, batches, broken gradients, draws, strength, and the gradients it
    declares. Exit code 1 if one fails.
    """
    from afbench.plans.own_attack import find_attack

    attack, params = find_attack(name)
    if attack.function is None:
        raise UsageError(
            f"'{name}' ships with afbench, and its tests try it; give your own as module:function"
        )
    # after the cheap mistakes: this imports torch
    from afbench.engine.attack_check import check_attack

    results = []
    for tried in check_attack(attack, params):
        results.append(tried)
        if not as_json:
            line = f"{'BROKEN' if tried.problem else 'ok    '}  {tried.name}"
            echo(fold_line(": ".join(filter(None, (line, tried.problem))), table_width(wide), " " * 8))
    if as_json:
        echo(json.dumps([asdict(tried) | {"passed": not tried.problem} for tried in results], indent=2))
    return 1 if any(tried.problem for tried in results) else 0
