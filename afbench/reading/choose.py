"""Find the configs and splits that a user's names stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from afbench.core import UsageError
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import CLEAN, ORIGINALS


def choose_configs(configs: Mapping[str, ConfigManifest], name: str | None, path: Path) -> list[str]:
    """Find the configs of a name: one, all of ``<localizer>-<attack>``, or ``all``; None is the card's default.

    Raises:
        UsageError: if the name is unknown, with those that are known.
    """
    attacked = [config for config in configs if config not in ORIGINALS]
    if name is None:
        return attacked[:1] or [CLEAN]
    if name in configs:
        return [name]
    groups: dict[str, list[str]] = {"all": attacked} if attacked else {}
    for config in attacked:
        family = f"{configs[config].localizer_name}-{configs[config].provenance['attack']}"
        groups.setdefault(family, []).append(config)
    if name not in groups:
        raise UsageError(f"config '{name}' is not in '{path}'; its configs: {', '.join([*configs, *groups])}")
    return groups[name]


def choose_splits(
    configs: Mapping[str, ConfigManifest], config_names: Sequence[str], name: str | None, path: Path
) -> list[str]:
    """Find the splits of the chosen configs, or the one that is named.

    Raises:
        UsageError: if none of them has it.
    """
    split_names = sorted({split for config in config_names for split in configs[config].splits})
    if name is None:
        return split_names
    if name not in split_names:
        raise UsageError(
            f"split '{name}' is not in config '{config_names[0]}' of '{path}'; its splits: {', '.join(split_names) or 'none'}"
        )
    return [name]
