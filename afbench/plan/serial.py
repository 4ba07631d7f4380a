"""A plan as JSON and back, for processes that are handed one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from afbench.core import ReadOptions, Setting

from .runplan import Block, RunPlan, SourceSpec


def plan_as_json(plan: RunPlan) -> dict[str, Any]:
    """Everything of a plan, of which ``plan_from_json`` makes an equal one."""
    return {
        "name": plan.name,
        "seed": plan.seed,
        "limit": plan.limit,
        "blocks": [
            {
                "localizers": list(block.localizers),
                "sources": [asdict(source) for source in block.sources],
                "settings": [_setting_as_json(setting) for setting in block.settings],
            }
            for block in plan.blocks
        ],
    }


def plan_from_json(told: Mapping[str, Any]) -> RunPlan:
    """The plan that ``plan_as_json`` was given."""
    blocks = tuple(
        Block(
            tuple(block["localizers"]),
            tuple(_source_from_json(source) for source in block["sources"]),
            tuple(_setting_from_json(setting) for setting in block["settings"]),
        )
        for block in told["blocks"]
    )
    return RunPlan(told["name"], blocks, told["seed"], told["limit"])


def _source_from_json(told: Mapping[str, Any]) -> SourceSpec:
    return SourceSpec(**{**told, "read": ReadOptions(**told["read"])})


def _setting_as_json(setting: Setting) -> dict[str, Any]:
    phi = None if setting.phi is None else str(setting.phi)
    return {
        "attack": setting.attack,
        "label": setting.label,
        "phi": phi,
        "steps": setting.steps,
        "params": dict(setting.params),
    }


def _setting_from_json(told: Mapping[str, Any]) -> Setting:
    phi = None if told["phi"] is None else Fraction(told["phi"])
    return Setting(told["attack"], told["label"], phi, told["steps"], told["params"])
