"""Call the functions behind ``import afbench`` with a command's options: both have the same names."""

from __future__ import annotations

from typing import Any

import click

from .progress import is_quiet

PRINTED = frozenset({"json", "wide", "dry_run", "all", "latex"})
"""Options that decide what a command prints; functions return data, and don't have them."""


def keyword_of(parameter: click.Parameter) -> str:
    """Return the keyword of an option, by its long name; an argument keeps its own."""
    names = [name for name in parameter.opts if name.startswith("--")]
    return names[0].removeprefix("--").replace("-", "_") if names else str(parameter.name)


def function_keywords() -> dict[str, Any]:
    """Return the values of the running command's options by keyword, without those that only decide what is printed."""
    context = click.get_current_context()
    values = {
        keyword_of(parameter): context.params[parameter.name]
        for parameter in context.command.params
        if parameter.name in context.params
    }
    takes_quiet = any(parameter.name == "quiet" for parameter in context.command.params)
    keywords = {name: value for name, value in values.items() if name not in PRINTED}
    return {**keywords, **({"quiet": is_quiet()} if takes_quiet else {})}
