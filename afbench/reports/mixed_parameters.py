"""Warn where a row of an attack averages configs that differ in more than phi and the number of C&W's steps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from afbench.storage.config_manifest import ConfigManifest

from .evaluation import attack_title

_UNRECORDED = {"loss": "bce", "target": "mask", "where": "all"}
"""Parameters that are recorded only where they are not this."""


def mixed_parameters(configs: Mapping[str, ConfigManifest], names: Collection[str]) -> list[str]:
    """Write a line for each localizer and attack whose configs among ``names`` have different parameters."""
    params_of: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for name in sorted(set(names)):
        if name in configs and (how := configs[name].provenance):
            key = configs[name].localizer_name, str(how.get("attack"))
            params_of.setdefault(key, []).append(how.get("params", {}))
    lines = []
    for (localizer, attack), params in params_of.items():
        keys = sorted({key for values in params for key in values})
        varied = {key: _values(key, params) for key in keys}
        differences = [f"{key} {' and '.join(values)}" for key, values in varied.items() if len(values) > 1]
        if differences:
            lines.append(
                f"{localizer}: {attack_title(attack)} averages over {', '.join(differences)}; `afbench stats` shows each config"
            )
    return lines


def _values(key: str, params: list[Mapping[str, Any]]) -> list[str]:
    return sorted({f"{values.get(key, _UNRECORDED.get(key, 'unset'))}" for values in params})
