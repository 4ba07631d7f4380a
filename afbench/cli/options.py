"""Define the options that several commands share, and turn them into a plan."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from afbench.core import ReadOptions, UsageError
from afbench.localizers import require_known
from afbench.plans import (
    ATTACKS,
    Block,
    RunPlan,
    SourceSpec,
    check_plan,
    expand_attack,
    narrow_plan,
    parse_attack,
    parse_source,
    read_plan,
)

from .echo import echo
from .name_types import ATTACK, LOCALIZER, PART, PLAN, SOURCE
from .plan_sources import map_sources, read_sources
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
        help="Attack, or torchattacks:NAME[:param=value...] of that library; repeat for several.",
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

_PARAM = re.compile(r"([A-Za-z_]+)=(\S+)")


def plan_options(function: F) -> F:
    """Add the options that describe which images to make."""
    # click lists the option that was added last first
    for option in reversed(_PLAN_OPTIONS):
        function = option(function)
    return function


def build_plan(
    *,
    plan_name: str | None,
    only: Sequence[str],
    localizers: Sequence[str],
    attacks: Sequence[str],
    phi: Sequence[str],
    steps: Sequence[str],
    params: Sequence[str],
    where: str | None,
    sources: Sequence[str],
    terms: Sequence[str],
    mask_threshold: int | None,
    mask_nonzero: bool,
    ignore_alpha: bool,
    limit: int | None,
    seed: int | None,
    large_phi: bool,
) -> RunPlan:
    """Turn options into a plan; print a line if the demo source is used by default.

    Raises:
        UsageError: for anything unknown, out of range or contradictory.
    """
    read = ReadOptions(mask_threshold, mask_nonzero, ignore_alpha)
    if plan_name:
        if localizers or attacks or phi or steps or params or where:
            raise UsageError(
                "--plan already names localizers, attacks and their settings; give one or the other"
            )
        plan = _with_roots(
            read_plan(plan_name, large_phi=large_phi), [parse_source(text) for text in sources]
        )
        plan = replace(
            plan,
            limit=plan.limit if limit is None else limit,
            seed=plan.seed if seed is None else seed,
        )
        plan = _checked(read_sources(plan, read, terms))
        return narrow_plan(plan, only) if only else plan
    if only:
        raise UsageError("--only takes a part of a --plan; here name it with --localizer, --source, --attack")
    if not localizers or not attacks:
        raise UsageError(
            "give --localizer and --attack, or --plan; for example: afbench generate --localizer reference --attack fgsm"
        )
    specs = tuple(parse_source(text) for text in sources or _default_sources())
    settings = _settings(
        attacks,
        phi,
        steps,
        _parse_params([*params, *([f"where={where}"] if where not in (None, "all") else [])]),
        large_phi,
    )
    # the name becomes a folder's, and a localizer may be MODULE:FUNCTION
    names = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join([*localizers, *(source.name for source in specs)]))
    plan = RunPlan(names, (Block(tuple(localizers), specs, settings),), seed or 0, limit)
    return _checked(read_sources(plan, read, terms))


def _default_sources() -> tuple[str, ...]:
    """Return the sources of ``AFBENCH_DATA``, else the embedded demo; print which, since the user did not name them.

    Raises:
        UsageError: if ``AFBENCH_DATA`` is set and holds nothing.
    """
    from afbench.sources import DATA_VARIABLE, find_sources
    from afbench.sources.layouts import LAYOUTS

    source_names = tuple(find_sources())
    if source_names:
        echo(f"no --source given: using {', '.join(source_names)} of AFBENCH_DATA", err=True)
        return source_names
    if data_folder := os.environ.get(DATA_VARIABLE):
        names = ", ".join(name for name in LAYOUTS if name not in ("folder", "list"))
        raise UsageError(
            f"no --source given, and {DATA_VARIABLE} is '{data_folder}', which has no folder of a known source ({names}); "
            "give --source, for example --source demo"
        )
    echo("no --source given: using the embedded demo forgeries", err=True)
    return ("demo",)


def _checked(plan: RunPlan) -> RunPlan:
    blocks = tuple(
        replace(block, localizers=tuple(map(require_known, block.localizers))) for block in plan.blocks
    )
    return check_plan(replace(plan, blocks=blocks))


def _settings(
    texts: Sequence[str], phi: Sequence[str], steps: Sequence[str], params: dict[str, str], large_phi: bool
) -> tuple[Any, ...]:
    attacks = [parse_attack(text) for text in texts]
    attack_names = ", ".join(texts)
    sweeps = {ATTACKS[name].sweeps for name, _ in attacks}
    if phi and "phi" not in sweeps:
        raise UsageError(f"none of the attacks {attack_names} takes --phi; cw takes --steps")
    if steps and "steps" not in sweeps:
        in_steps = any("steps" in ATTACKS[name].parameters for name, _ in attacks)
        remedy = "their iterations are --param steps=N" if in_steps else "leave it out"
        raise UsageError(f"none of the attacks {attack_names} takes --steps; {remedy}")
    # an attack that ignores it would put noise where none was asked for
    boundless = [name for name, _ in attacks if "where" not in ATTACKS[name].parameters]
    if "where" in params and boundless:
        raise UsageError(
            f"attack '{ATTACKS[boundless[0]].asked_as or boundless[0]}' cannot keep its noise in a region; leave it or --where out"
        )
    # a parameter that no attack takes is a typing error, and would be ignored without a word
    for key in params:
        if not any(key in ATTACKS[name].parameters for name, _ in attacks):
            parameter_names = (
                ", ".join(sorted({key for name, _ in attacks for key in ATTACKS[name].choices})) or "none"
            )
            raise UsageError(
                f"none of the attacks {attack_names} has a parameter '{key}'; their parameters: {parameter_names}"
            )
    settings = []
    for name, attack_params in attacks:
        # --param names one parameter for all attacks of the command; each takes those it has
        own_params = {key: value for key, value in params.items() if key in ATTACKS[name].parameters}
        swept = {"phi": phi} if ATTACKS[name].sweeps == "phi" else {"steps": steps}
        settings += expand_attack(name, params=own_params | attack_params, large_phi=large_phi, **swept)  # type: ignore[arg-type]
    return tuple(settings)


def _parse_params(texts: Sequence[str]) -> dict[str, str]:
    params = {}
    for text in texts:
        match = _PARAM.fullmatch(text)
        if not match:
            raise UsageError(f"--param must be name=value, e.g. neighbours=4; found '{text}'")
        params[match[1]] = match[2]
    return params


def _with_roots(plan: RunPlan, specs: Sequence[SourceSpec]) -> RunPlan:
    """Put the roots of --source NAME:ROOT into the plan's sources of the same name."""
    roots = {source.name: source for source in specs}
    if len(roots) < len(specs):
        raise UsageError("--source gives the root of one of the plan's sources twice")
    names = {source.name for block in plan.blocks for source in block.sources}
    for name in roots:
        if name not in names:
            raise UsageError(
                f"plan '{plan.name}' has no source '{name}'; its sources: {', '.join(sorted(names))}"
            )

    def rooted(source: SourceSpec) -> SourceSpec:
        spec = roots.get(source.name)
        if spec is None:
            return source
        # the plan's settings are for one dataset; another under its name would look like it
        if spec.read_as != source.read_as:
            raise UsageError(
                f"plan '{plan.name}' reads source '{source.name}' as {source.read_as}; found {spec.read_as}"
            )
        return replace(source, root=spec.root)

    return map_sources(plan, rooted)


def default_out(plan: RunPlan) -> Path:
    """Return the default folder: ``afbench-out/<plan, or localizer-source>``."""
    return Path("afbench-out") / plan.name
