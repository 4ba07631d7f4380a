"""Define the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from .name_types import ATTACK, LOCALIZER, PART, PLAN, SOURCE
from .read_options import read_options

F = TypeVar("F", bound=Callable[..., Any])

_PLAN_OPTIONS = (
    click.option(
        "--plan",
        "plan_name",
        type=PLAN,
        metavar="NAME|PATH",
        help="A shipped plan or a YAML file (docs/plan.md), instead of the options below.",
    ),
    click.option(
        "--only",
        multiple=True,
        type=PART,
        metavar="NAME[,NAME...]",
        help="Take only these localizers, sources and attacks of --plan, e.g. mvss,casia_v1; repeat.",
    ),
    click.option(
        "--localizer",
        "localizers",
        type=LOCALIZER,
        multiple=True,
        metavar="NAME",
        help="Network to attack; repeat for several.",
    ),
    click.option(
        "--attack",
        "attacks",
        type=ATTACK,
        multiple=True,
        metavar="NAME",
        help="Attack, torchattacks:NAME[:param=value...] of that library, or your own as my_package.my_module:build; repeat for several.",
    ),
    click.option(
        "--phi",
        multiple=True,
        metavar="PHI",
        help="L-inf radius of the [0, 1] range, e.g. 1/255; repeat. Default: 1, 2, 3 /255.",
    ),
    click.option(
        "--steps",
        multiple=True,
        metavar="M",
        help="Number of C&W steps; repeat. Default: 50, 100, 150, 200, 250.",
    ),
    click.option(
        "--param",
        "params",
        multiple=True,
        metavar="NAME=VALUE",
        help="Another attack parameter, e.g. neighbours=4.",
    ),
    click.option(
        "--where",
        type=click.Choice(["all", "forged", "authentic"]),
        help="Keep the noise inside the forged pixels, outside of them, or allow it everywhere (default). Not for strong, cw, noise, square and torchattacks.",
    ),
    click.option(
        "--source",
        "sources",
        type=SOURCE,
        multiple=True,
        metavar="[OWN=]NAME[:ROOT]",
        help="Where forged images come from: a name, with the folder of your copy or its index, e.g. casia_v1:DIR, or under a name of your own, e.g. phones=folder:DIR; repeat. Default: what AFBENCH_DATA holds, else demo.",
    ),
    click.option(
        "--terms",
        multiple=True,
        metavar="[NAME=]TEXT",
        help="Terms of use of a folder or list of your own, for its card and manifest; repeat with the names of several.",
    ),
    read_options,
    click.option("--limit", type=int, metavar="N", help="Take the first N samples of each source."),
    click.option(
        "--seed",
        type=int,
        metavar="N",
        help="Seed of synthetic forgeries and of every random draw. Default: 0.",
    ),
    click.option("--large-phi", is_flag=True, help="Accept phi above 0.1."),
)


def plan_options(function: F) -> F:
    """Add the options that describe which images to make."""
    # click lists the option that was added last first
    for option in reversed(_PLAN_OPTIONS):
        function = option(function)
    return function
