"""Identify the network that a config attacked; its name in configs is only a label that ``--localizer-name`` sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def identity_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the network a config attacked and how, as its manifest records them.

    Raises:
        KeyError, TypeError: if the manifest is damaged.
    """
    localizer = provenance["localizer"]
    return {
        "architecture": str(localizer.get("architecture", "unknown")),
        "weights_sha256": str(localizer["weights_sha256"]),
        "threshold": localizer.get("threshold"),
        "resolution": str(localizer.get("resolution", "official")),
        "untrained": bool(localizer["untrained"]),
        "attack_at": str(provenance.get("attack_at", "native")),
        "through_defence": "defence" in provenance,
    }


def describe_identity(identity: Mapping[str, Any]) -> str:
    """Describe a network as ``network mvss, weights 0123456789ab``, with what is unusual about it."""
    parts = [f"network {identity['architecture']}", f"weights {identity['weights_sha256'][:12]}"]
    if identity["untrained"]:
        parts.append("untrained")
    if identity["resolution"] != "official":
        parts.append(f"resolution {identity['resolution']}")
    return ", ".join(parts)
