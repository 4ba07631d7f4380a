"""Types of names on the command line: converted to canonical form and completed by the shell. Need no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from afbench.defences.names import defence_names
from afbench.localizers import known_localizers, parse_choice, require_known
from afbench.naming import resolve_name
from afbench.plans import BUILT_IN, CLASSES, SOURCE_NAMES, list_plans
from afbench.resources import resource_json


class _Name(click.ParamType):  # type: ignore[type-arg]
    """A name; ``convert`` returns its canonical form or what it stands for, ``complete`` lists the known names."""

    def __init__(
        self,
        name: str,
        complete: Callable[[click.Context], Iterable[str]],
        convert: Callable[[str], Any] = str,
    ) -> None:
        self.name = name
        self._complete = complete
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._convert(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [
            CompletionItem(name)
            for name in self._complete(ctx)
            if name.lower().startswith(incomplete.lower())
        ]


def _configs(context: click.Context) -> list[str]:
    """List the configs of the folder on the command line, by the names of its manifests."""
    # click keeps the arguments of an unfinished line in context.args
    folders = (context.params.get("folder"), context.params.get("data"), *context.args)
    return sorted(path.stem for folder in folders if folder for path in Path(folder).glob("manifests/*.json"))


LOCALIZER = _Name("localizer", lambda context: known_localizers(), require_known)
LOCALIZER_CHOICE = _Name("localizer", lambda context: known_localizers(), parse_choice)
PUBLISHED = _Name(
    "localizer",
    lambda context: list(resource_json("localizers")),
    lambda text: resolve_name("localizer", text, resource_json("localizers")) or text,
)
ATTACK = _Name("attack", lambda context: [*BUILT_IN, *(f"torchattacks:{name}" for name in CLASSES.values())])
SOURCE = _Name("source", lambda context: [*SOURCE_NAMES, *resource_json("sources")])
DEFENCE = _Name("defence", lambda context: defence_names())
PART = _Name(
    "part", lambda context: [*known_localizers(), *SOURCE_NAMES, *resource_json("sources"), *BUILT_IN]
)
PLAN = _Name("plan", lambda context: list_plans())
CONFIG = _Name("config", _configs)
