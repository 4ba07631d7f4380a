"""What options say of all sources of a plan, or of one by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from afbench.core import ReadOptions, UsageError
from afbench.plan import RunPlan, SourceSpec, with_read_options, with_terms

OWN = ("folder", "list")
EMBEDDED = ("demo", "synthetic")


def map_sources(plan: RunPlan, change: Callable[[SourceSpec], SourceSpec]) -> RunPlan:
    """A plan with every source changed."""
    blocks = tuple(replace(block, sources=tuple(map(change, block.sources))) for block in plan.blocks)
    return replace(plan, blocks=blocks)


def read_sources(plan: RunPlan, read: ReadOptions, terms: Sequence[str]) -> RunPlan:
    """A plan whose sources are read as the options say, but for those that come with afbench; and their terms.

    Raises:
        UsageError: if there is no source that an option could mean.
    """
    if read != ReadOptions():
        specs = _sources(plan)
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
    own = sorted({spec.name for spec in specs if spec.read_as in OWN})
    found: dict[str, str] = {}
    for text in terms:
        before, equals, after = text.partition("=")
        name, line = (before, after) if equals and before in names else ("", text)
        if not name and len(own) != 1:
            known = (
                f"which of {', '.join(own)} it is about: --terms {own[0]}=TEXT"
                if own
                else "a folder or list of yours"
            )
            raise UsageError(f"--terms '{text[:80]}' must say {known}")
        if not line.strip():
            raise UsageError(f"--terms '{text[:80]}' says nothing")
        if found.setdefault(name or own[0], line) != line:
            raise UsageError(f"--terms is given twice for source '{name or own[0]}'")
    return found
