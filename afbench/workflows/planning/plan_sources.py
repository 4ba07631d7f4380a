"""Apply options to all sources of a plan, or to one by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.core import ReadOptions, UsageError
from afbench.plans import OWN_LAYOUTS, RunPlan, SourceSpec, with_read_options, with_terms

EMBEDDED = ("demo", "synthetic")


def map_sources(plan: RunPlan, change: Callable[[SourceSpec], SourceSpec]) -> RunPlan:
    """Return a plan with every source changed."""
    blocks = tuple(replace(block, sources=tuple(map(change, block.sources))) for block in plan.blocks)
    return replace(plan, blocks=blocks)


def read_sources(plan: RunPlan, read: ReadOptions, terms: Sequence[str]) -> RunPlan:
    """Return a plan whose sources have the given terms and are read as the options say, except those that come with afbench.

    Raises:
        UsageError: if there is no source that an option could mean.
    """
    if read != ReadOptions():
        specs = _sources(plan)
        # options on embedded sources alone are a mistake, which with_read_options then reports
        alone = all(spec.name in EMBEDDED for spec in specs)
        plan = map_sources(
            plan, lambda spec: with_read_options(spec, read) if alone or spec.name not in EMBEDDED else spec
        )
    by_name = _terms_by_name(_sources(plan), terms)
    return map_sources(plan, lambda spec: with_terms(spec, by_name.get(spec.name, "")))


def _sources(plan: RunPlan) -> list[SourceSpec]:
    return [spec for block in plan.blocks for spec in block.sources]


def _terms_by_name(specs: Sequence[SourceSpec], terms: Sequence[str]) -> dict[str, str]:
    names = {spec.name for spec in specs}
    own_names = sorted({spec.name for spec in specs if spec.read_as in OWN_LAYOUTS})
    terms_by_name: dict[str, str] = {}
    for text in terms:
        prefix, equals, suffix = text.partition("=")
        name, line = (prefix, suffix) if equals and prefix in names else ("", text)
        if not name and len(own_names) != 1:
            expected = (
                f"which of {', '.join(own_names)} it is about: --terms {own_names[0]}=TEXT"
                if own_names
                else "a folder or list of yours"
            )
            raise UsageError(f"--terms '{text[:80]}' must say {expected}")
        if not line.strip():
            raise UsageError(f"--terms '{text[:80]}' says nothing")
        if terms_by_name.setdefault(name or own_names[0], line) != line:
            raise UsageError(f"--terms is given twice for source '{name or own_names[0]}'")
    return terms_by_name
