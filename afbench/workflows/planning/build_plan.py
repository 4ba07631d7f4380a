"""Turn what a user asks for into a plan."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from afbench.core import ReadOptions, UsageError
from afbench.localizers import require_known
from afbench.plans import (
    OWN_LAYOUTS,
    Block,
    RunPlan,
    SourceSpec,
    check_plan,
    narrow_plan,
    parse_source,
    read_plan,
)
from afbench.plans.requested_settings import requested_settings

from .plan_sources import map_sources, read_sources

_log = logging.getLogger(__name__)


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
    max_side: int | None,
    limit: int | None,
    seed: int | None,
    large_phi: bool,
) -> RunPlan:
    """Turn options into a plan; log a line if the demo source is used by default.

    Raises:
        UsageError: for anything unknown, out of range or contradictory.
    """
    read = ReadOptions(mask_threshold, mask_nonzero, ignore_alpha, max_side)
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
    settings = requested_settings(
        attacks, phi=phi, steps=steps, params=params, region=where, large_phi=large_phi
    )
    # the name becomes a folder's, and a localizer may be MODULE:FUNCTION
    names = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join([*localizers, *(source.name for source in specs)]))
    plan = RunPlan(names, (Block(tuple(localizers), specs, settings),), seed or 0, limit)
    return _checked(read_sources(plan, read, terms))


def _default_sources() -> tuple[str, ...]:
    """Return the sources of ``AFBENCH_DATA``, else the embedded demo; log which, since the user did not name them.

    Raises:
        UsageError: if ``AFBENCH_DATA`` is set and holds nothing.
    """
    from afbench.sources import DATA_VARIABLE, find_sources
    from afbench.sources.layouts import LAYOUTS

    source_names = tuple(find_sources())
    if source_names:
        _log.info("no --source given: using %s of AFBENCH_DATA", ", ".join(source_names))
        return source_names
    if data_folder := os.environ.get(DATA_VARIABLE):
        names = ", ".join(name for name in LAYOUTS if name not in OWN_LAYOUTS)
        raise UsageError(
            f"no --source given, and {DATA_VARIABLE} is '{data_folder}', which has no folder of a known source ({names}); "
            "give --source, for example --source demo"
        )
    _log.info("no --source given: using the embedded demo forgeries")
    return ("demo",)


def _checked(plan: RunPlan) -> RunPlan:
    blocks = tuple(
        replace(block, localizers=tuple(map(require_known, block.localizers))) for block in plan.blocks
    )
    return check_plan(replace(plan, blocks=blocks))


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
