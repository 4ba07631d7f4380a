"""From what a user names to the configs and splits that are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench.core import UsageError
from afbench.storage.manifests import CLEAN, ORIGINALS


def choose_configs(configs: Mapping[str, Mapping[str, Any]], name: str | None, path: Path) -> list[str]:
    """The configs a name stands for: one, all of ``<localizer>-<attack>``, or ``all``; None is the card's default.

    Raises:
        UsageError: if the name is unknown, with those that are known.
    """
    attacked = [one for one in configs if one not in ORIGINALS]
    if name is None:
        return attacked[:1] or [CLEAN]
    if name in configs:
        return [name]
    groups: dict[str, list[str]] = {"all": attacked} if attacked else {}
    for one in attacked:
        how = configs[one]["how"]
        groups.setdefault(f"{how['localizer']['name']}-{how['attack']}", []).append(one)
    if name not in groups:
        raise UsageError(f"config '{name}' is not in '{path}'; its configs: {', '.join([*configs, *groups])}")
    return groups[name]


def choose_splits(
    configs: Mapping[str, Mapping[str, Any]], chosen: Sequence[str], name: str | None, path: Path
) -> list[str]:
    """The splits of the chosen configs, or the one that is named.

    Raises:
        UsageError: if none of them has it.
    """
    known = sorted({split for config in chosen for split in configs[config]["splits"]})
    if name is None:
        return known
    if name not in known:
        raise UsageError(
            f"split '{name}' is not in config '{chosen[0]}' of '{path}'; its splits: {', '.join(known) or 'none'}"
        )
    return [name]
