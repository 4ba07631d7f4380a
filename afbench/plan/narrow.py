"""Take a part of a plan: some of its localizers, sources and attacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from afbench.core import Setting, UsageError
from afbench.naming import did_you_mean, resolve_name

from .attacks import ATTACKS
from .runplan import Block, RunPlan


def narrow_plan(plan: RunPlan, only: Sequence[str]) -> RunPlan:
    """Keep what names a chosen localizer, source or attack; of a kind that no name is of, everything stays.

    The plan keeps its name, and so its folder: the rest can be made there later.

    Args:
        plan: with the canonical names of its localizers.
        only: names, also several with commas between them, in any case and by common aliases.
    Raises:
        UsageError: if the plan has no such name, or nothing of it has all that was chosen.
    """
    there = {
        "localizer": _in_order(name for block in plan.blocks for name in block.localizers),
        "source": _in_order(source.name for block in plan.blocks for source in block.sources),
        "attack": _in_order(_asked(setting) for block in plan.blocks for setting in block.settings),
    }
    chosen: dict[str, list[str]] = {kind: [] for kind in there}
    for text in (part.strip() for names in only for part in names.split(",")):
        meant = {kind: resolve_name(kind, text, names) for kind, names in there.items()}
        if not any(meant.values()):
            every = [name for names in there.values() for name in names]
            raise UsageError(
                f"plan '{plan.name}' has no '{text}'; {did_you_mean('', text, every)}it has "
                + "; ".join(f"{kind}s {', '.join(names)}" for kind, names in there.items())
            )
        for kind, name in meant.items():
            chosen[kind] += [name] if name else []
    kept = {kind: chosen[kind] or names for kind, names in there.items()}
    blocks = tuple(
        block
        for block in (_narrowed(block, kept) for block in plan.blocks)
        if block.localizers and block.sources and block.settings
    )
    if not blocks:
        raise UsageError(f"no block of plan '{plan.name}' holds all of {', '.join(only)}")
    return replace(plan, blocks=blocks)


def _narrowed(block: Block, kept: dict[str, list[str]]) -> Block:
    return Block(
        tuple(name for name in block.localizers if name in kept["localizer"]),
        tuple(source for source in block.sources if source.name in kept["source"]),
        tuple(setting for setting in block.settings if _asked(setting) in kept["attack"]),
    )


def _asked(setting: Setting) -> str:
    """What a user calls the attack of a setting."""
    return ATTACKS[setting.attack].asked_as or setting.attack


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
