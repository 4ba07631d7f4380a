"""Convert a plan to JSON and back, for worker processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from afbench.core import ReadOptions, Setting, UsageError

from .attack_spec import SOURCE
from .own_attack import load_own_attack
from .runplan import Block, RunPlan, SourceSpec


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """Convert a plan to JSON, from which ``plan_from_json`` makes an equal one."""
    return {
        "name": plan.name,
        "seed": plan.seed,
        "limit": plan.limit,
        "format": plan.shard_format,
        "blocks": [
            {
                "localizers": list(block.localizers),
                "sources": [asdict(source) for source in block.sources],
                "settings": [_setting_as_json(setting) for setting in block.settings],
            }
            for block in plan.blocks
        ],
    }


def plan_from_json(plan_json: Mapping[str, Any]) -> RunPlan:
    """Make a plan equal to the one that ``plan_as_json`` converted."""
    blocks = tuple(
        Block(
            tuple(block["localizers"]),
            tuple(_source_from_json(source) for source in block["sources"]),
            tuple(_setting_from_json(setting) for setting in block["settings"]),
        )
        for block in plan_json["blocks"]
    )
    return RunPlan(plan_json["name"], blocks, plan_json["seed"], plan_json["limit"], plan_json["format"])


def _source_from_json(source_json: Mapping[str, Any]) -> SourceSpec:
    return SourceSpec(**{**source_json, "read": ReadOptions(**source_json["read"])})


def _setting_as_json(setting: Setting) -> dict[str, Any]:
    phi = None if setting.phi is None else str(setting.phi)
    return {
        "attack": setting.attack,
        "label": setting.label,
        "phi": phi,
        "steps": setting.steps,
        "params": dict(setting.params),
        "own": setting.user_attack.asked_as if setting.user_attack else None,
    }


def _setting_from_json(setting_json: Mapping[str, Any]) -> Setting:
    phi = None if setting_json["phi"] is None else Fraction(setting_json["phi"])
    user_attack = load_own_attack(setting_json["own"]) if setting_json["own"] else None
    if user_attack and user_attack.defaults[SOURCE] != setting_json["params"][SOURCE]:
        raise UsageError(
            f"the file of attack '{user_attack.asked_as}' changed since the run began; run it again"
        )
    return Setting(
        setting_json["attack"],
        setting_json["label"],
        phi,
        setting_json["steps"],
        setting_json["params"],
        user_attack,
    )
