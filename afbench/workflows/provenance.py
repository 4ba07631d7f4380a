"""Describe how a config is made, as data: what its hash covers, and the software that made it."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from afbench.core import Localizer, Setting
from afbench.defences import Purifier
from afbench.localizers import why_imprecise
from afbench.plans import canonical_json
from afbench.version import __version__

ROUNDING = "nearest level, halves away from zero with slack 1e-3, within floor(255 phi + 1e-3) levels"
_LIBRARIES = ("torch", "numpy", "pillow", "pyarrow", "datasets", "opencv-python-headless", "scikit-image")


def describe_config(
    localizer: Localizer,
    localizer_name: str,
    setting: Setting,
    *,
    seed: int,
    seed_rule: str,
    precision: str,
    attack_at: str,
    defence: Purifier | None = None,
    compiled: bool = False,
) -> dict[str, Any]:
    """Describe everything that decides the pixels of a config; ``config_hash`` hashes it."""
    return {
        "attack": setting.attack,
        "phi": None if setting.phi is None else str(setting.phi),
        "steps": setting.steps,
        "params": dict(setting.params),
        "localizer": {
            "name": localizer_name,
            "architecture": localizer.name,
            "weights_sha256": localizer.weights_sha256,
            "threshold": localizer.threshold,
            "resolution": getattr(localizer, "resolution", "official"),
            "logit": getattr(localizer, "logit", "the network's own"),
            "untrained": bool(getattr(localizer, "untrained", False)),
        },
        "attack_at": attack_at,
        "precision": precision,
        "rounding": ROUNDING,
        "seed": seed,
        "seed_rule": seed_rule,
        # these keys are absent where they say nothing, so that the hashes of older configs stay the same
        **({} if defence is None else {"defence": defence.describe()}),
        **({"compile": True} if compiled else {}),
        **({"imprecise": True} if why_imprecise(localizer.name, precision) else {}),
    }


def config_hash(description: Mapping[str, Any]) -> str:
    """Return the sha256 of the canonical JSON of a description."""
    return hashlib.sha256(canonical_json(description).encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the entries in which two descriptions differ: ``name: old -> new``."""
    differences = []
    for key in sorted({*old, *new}):
        old_value, new_value = old.get(key), new.get(key)
        if isinstance(old_value, Mapping) and isinstance(new_value, Mapping):
            differences += difference(old_value, new_value, f"{prefix}{key}.")
        elif old_value != new_value:
            differences.append(f"{prefix}{key}: {old_value} -> {new_value}")
    return differences


def software() -> dict[str, Any]:
    """Return the versions that made the bytes, and the commit if run from a checkout."""
    libraries = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "absent"
    return {"afbench": __version__, "commit": _commit(), "libraries": libraries}


def _commit() -> dict[str, Any] | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        # untracked files, such as an output folder, do not change the code
        return {"sha": head, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    completed = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return completed.stdout.strip()
