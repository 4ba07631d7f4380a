"""Load a localizer whose network can be trained further and saved as a checkpoint again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from afbench.core import Localizer, UsageError

from .checkpoint_files import state_sha256
from .custom import load_custom
from .load import REFERENCE, filled_network, guess_owner, load_localizer, recipe, require_localizer
from .published import PublishedLocalizer
from .reference import ReferenceLocalizer, filled_reference
from .untrained import is_untrained


@dataclass(frozen=True)
class Trainable:
    """A localizer and its network, whose state dict ``load_localizer`` takes as a checkpoint.

    The network is neither folded nor frozen: what ``load_localizer`` does for speed would change its names.
    ``localizer.weights_sha256`` is the hash of the weights it starts from.
    """

    localizer: Localizer
    network: nn.Module


def load_trainable(
    name: str,
    checkpoint: str | None = None,
    *,
    resolution: Literal["official", "input"] = "official",
    device: str = "cpu",
) -> Trainable:
    """Build a localizer as ``load_localizer`` does, in evaluation mode, with parameters that take gradients.

    Args:
        name: as ``load_localizer`` takes it. A user's own must show its network as an attribute ``network``, as
            ``afbench.as_localizer`` does, and load what that network's ``state_dict`` gives.
        checkpoint: as ``load_localizer`` takes it.
        resolution: as ``load_localizer`` takes it.
        device: the device of the network.
    Raises:
        UsageError: like ``load_localizer``, and for a user's own localizer without an attribute ``network``.
    """
    name = require_localizer(name, checkpoint)
    if ":" in name:
        localizer: Any = load_custom(name, checkpoint, device)
        network = getattr(localizer, "network", None)
        if not isinstance(network, nn.Module):
            raise UsageError(
                f"localizer '{name}' shows no network that could be trained; return afbench.as_localizer(network, name=...)"
            )
        return Trainable(localizer, network.requires_grad_(True))
    if name == REFERENCE:
        network = filled_reference(checkpoint, lambda state: guess_owner(state, expected_name=REFERENCE))
        localizer = ReferenceLocalizer(network, state_sha256(network), is_untrained(checkpoint))
    else:
        network = filled_network(name, checkpoint)
        if checkpoint is None:  # refuses registered weights that changed since
            load_localizer(name, device="cpu")
        localizer = PublishedLocalizer(
            name, recipe(name), network, state_sha256(network), is_untrained(checkpoint), resolution
        )
    network.eval().requires_grad_(True).to(device)
    return Trainable(localizer, network)
