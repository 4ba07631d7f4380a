"""Refuse a localizer that is not the one a benchmark attacked; the name that configs give it is a label and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afbench.core import Localizer, UsageError
from afbench.localizers import known_localizers


def require_architecture(localizer: str, attacked: Mapping[str, Any], data: Path) -> None:
    """Refuse a registered network that is not the one attacked, before its weights are looked for.

    Raises:
        UsageError: with both names, and the options to give.
    """
    architecture, label = attacked.get("architecture", localizer), attacked["name"]
    # a user's own function may build any network; its weights are compared once it is loaded
    if localizer in known_localizers() and architecture != localizer:
        raise UsageError(
            f"'{data}' calls network '{architecture}' '{label}', and '{localizer}' is another; give --localizer {architecture} "
            f"--localizer-name {label}"
        )


def require_attacked(network: Localizer, attacked: Mapping[str, Any], data: Path) -> None:
    """Refuse a network that differs from the attacked one in its architecture, weights or threshold.

    Args:
        network: the loaded localizer.
        attacked: ``localizer`` in the provenance of the config.
        data: folder of the benchmark, for the message.
    Raises:
        UsageError: with both values.
    """
    label, weights = attacked["name"], str(attacked["weights_sha256"])
    if network.weights_sha256 != weights:
        raise UsageError(
            f"'{data}' attacked weights {weights[:12]} of '{label}', these are {network.weights_sha256[:12]}; give "
            "--checkpoint"
        )
    for key, value in (("architecture", network.name), ("threshold", network.threshold)):
        if attacked.get(key, value) != value:
            raise UsageError(
                f"'{data}' attacked '{label}' of {key} {attacked[key]}, this one's is {value}; give the localizer it was made with"
            )
