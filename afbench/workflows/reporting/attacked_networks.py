"""Load the network that a config attacked, where its weights are at hand."""

from __future__ import annotations

from typing import NamedTuple

from afbench.core import Localizer, UsageError
from afbench.localizers import known_localizers, load_localizer
from afbench.localizers.untrained import RANDOM
from afbench.storage.manifests import Benchmark


class AttackedNetwork(NamedTuple):
    """The network a config attacked, as its manifest names it."""

    architecture: str
    weights_sha256: str
    untrained: bool


def attacked_network(benchmark: Benchmark, config: str) -> AttackedNetwork:
    """Return what the manifest of a config says of the network it attacked."""
    attacked = benchmark.configs[config].provenance["localizer"]
    return AttackedNetwork(attacked["architecture"], attacked["weights_sha256"], attacked["untrained"])


def load_attacked(
    checkpoint: str | None, own_function: str | None, attacked: AttackedNetwork, *, device: str = "cpu"
) -> Localizer | None:
    """Load the localizer that was attacked, or return None if its weights are not available."""
    if own_function is None and attacked.architecture not in known_localizers():
        return None
    if checkpoint is None and own_function is None and attacked.untrained:
        checkpoint = RANDOM
    try:
        localizer = load_localizer(own_function or attacked.architecture, checkpoint, device=device)
    except UsageError:
        if checkpoint or own_function:
            raise
        return None
    return localizer if localizer.weights_sha256 == attacked.weights_sha256 else None
