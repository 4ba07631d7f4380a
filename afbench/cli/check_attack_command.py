"""``afbench check-attack``."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from afbench.api.attack_checking import check_attack
from afbench.reports.text import fold_line

from .echo import echo
from .function_keywords import function_keywords
from .text_tables import table_width, wide_option

if TYPE_CHECKING:
    from afbench.engine.attack_check import Tried


@click.command("check-attack", epilog="Example: afbench check-attack afbench.engine.example_attack:build")
@click.argument("name", metavar="MODULE:FUNCTION[:NAME=VALUE...]")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@wide_option
def command(as_json: bool, wide: bool, **options: Any) -> int:
    """Try an attack of your own under the properties of the attacks that ship.

    MODULE:FUNCTION is called without arguments and returns an attack; afbench.as_attack makes one of a function. It runs on a
    small random localizer with images of 12x8 pixels: bounds, batches, broken gradients, draws, strength, and the gradients it
    declares. Exit code 1 if one fails.
    """
    checked = check_attack(
        **function_keywords(), on_finding=None if as_json else partial(_echo_finding, table_width(wide))
    )
    if as_json:
        findings = [asdict(finding) | {"passed": not finding.problem} for finding in checked.findings]
        echo(json.dumps(findings, indent=2))
    return 0 if checked.passed else 1


def _echo_finding(width: int | None, finding: Tried) -> None:
    line = f"{'BROKEN' if finding.problem else 'ok    '}  {finding.name}"
    echo(fold_line(": ".join(filter(None, (line, finding.problem))), width, " " * 8))
