"""Take a part of a plan: some of its localizers, sources and attacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from afbench.core import Setting, UsageError
from afbench.naming import did_you_mean, resolve_name

from .attacks import attack_of
from .runplan import Block, RunPlan


def narrow_plan(plan: RunPlan, only: Sequence[str]) -> RunPlan:
    """Keep the localizers, sources and attacks that are named; of a kind without a name, keep all.

    The plan keeps its name, and so its folder: the rest can be generated there later.

    Args:
        plan: with the canonical names of its localizers.
        only: names, also several with commas between them, in any case and by common aliases.
    Raises:
        UsageError: if the plan has no such name, or no block holds all the named parts.
    """
    plan_names = {
        "localizer": _in_order(name for block in plan.blocks for name in block.localizers),
        "source": _in_order(source.name for block in plan.blocks for source in block.sources),
        "attack": _in_order(_asked(setting) for block in plan.blocks for setting in block.settings),
    }
    chosen_names: dict[str, list[str]] = {kind: [] for kind in plan_names}
    for text in (part.strip() for names in only for part in names.split(",")):
        meanings = {kind: resolve_name(kind, text, names) for kind, names in plan_names.items()}
        if not any(meanings.values()):
            all_names = [name for names in plan_names.values() for name in names]
            raise UsageError(
                f"plan '{plan.name}' has no '{text}'; {did_you_mean('', text, all_names)}it has "
                + "; ".join(f"{kind}s {', '.join(names)}" for kind, names in plan_names.items())
            )
        for kind, name in meanings.items():
            chosen_names[kind] += [name] if name else []
    kept_names = {kind: chosen_names[kind] or names for kind, names in plan_names.items()}
    blocks = tuple(
        block
        for block in (_narrowed(block, kept_names) for block in plan.blocks)
        if block.localizers and block.sources and block.settings
    )
    if not blocks:
        raise UsageError(f"no block of plan '{plan.name}' holds all of {', '.join(only)}")
    return replace(plan, blocks=blocks)


def _narrowed(block: Block, kept_names: dict[str, list[str]]) -> Block:
    return Block(
        tuple(name for name in block.localizers if name in kept_names["localizer"]),
        tuple(source for source in block.sources if source.name in kept_names["source"]),
        tuple(setting for setting in block.settings if _asked(setting) in kept_names["attack"]),
    )


def _asked(setting: Setting) -> str:
    """Return what a user calls the attack of a setting."""
    return attack_of(setting).asked_as or setting.attack


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
