"""Load a user's own localizer: any network that maps an image to a forgery logit per pixel."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from afbench.argument_types import checks_arguments
from afbench.core import Localizer, UsageError
from afbench.user_code import call_function

from .checkpoint_files import state_sha256
from .saving import save_checkpoint
from .untrained import is_untrained


@dataclass(frozen=True)
class CustomLocalizer:
    """A frozen network in evaluation mode whose output, at the image's size, is the logit itself.

    ``image_score`` is its own score of whole images, if it has one.
    """

    network: nn.Module
    name: str
    weights_sha256: str
    threshold: float = 0.5
    image_score: Callable[[Tensor], Tensor] | None = None

    def logits(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to logits ``(N, 1, H, W)``."""
        return self.network(image)  # type: ignore[no-any-return]

    def probability(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1]."""
        return self.probability_and_logits(image)[0]

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one pass through the network."""
        logits = self.logits(image)
        return torch.sigmoid(logits), logits

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write the network's state dict to a new file; your ``build`` must take it."""
        return save_checkpoint(self.network, path)


@checks_arguments
def as_localizer(
    network: nn.Module,
    *,
    name: str,
    threshold: float = 0.5,
    image_score: Callable[[Tensor], Tensor] | None = None,
    device: str = "cpu",
) -> CustomLocalizer:
    """Make a localizer of a network: freeze it, set evaluation mode and move it to the device.

    >>> import afbench
    >>> from torch import nn
    >>>
    >>> class EdgeNet(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.convolution = nn.Conv2d(3, 1, kernel_size=5, padding=2)
    ...
    ...     def forward(self, image):  # (N, 3, H, W), RGB in [0, 1]: resize and normalise in here
    ...         return self.convolution((image - 0.5) / 0.5)  # logits, (N, 1, H, W)
    >>>
    >>> def build(checkpoint, device):  # --localizer my_package.my_module:build
    ...     network = EdgeNet()  # and load the checkpoint, which is None unless --checkpoint names one
    ...     return afbench.as_localizer(network, name="edgenet", threshold=0.5, device=device)
    >>>
    >>> [one.name for one in afbench.check_localizer(build(None, "cpu")) if not one.passed]
    []

    Args:
        network: image ``(N, 3, H, W)``, RGB in [0, 1], to logits ``(N, 1, H, W)``.
        name: the architecture's name in manifests.
        threshold: forged where the sigmoid of the logit is above.
        image_score: images ``(N, 3, H, W)`` to ``(N,)`` in [0, 1], above 0.5 where it calls the whole image forged; `evaluate`
            reports it beside the scores that it makes of the probabilities.
        device: the device of the network.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"threshold must lie between 0 and 1; found {threshold}")
    digest = state_sha256(network)
    frozen = network.eval().requires_grad_(False).to(device)
    return CustomLocalizer(frozen, name, digest, threshold, image_score)


def load_custom(name: str, checkpoint: str | None, device: str) -> Localizer:
    """Call a user's ``build(checkpoint, device)``; the working folder is last on the import path.

    Raises:
        UsageError: if it cannot be imported or called, or returns no localizer.
    """
    if is_untrained(checkpoint):
        raise UsageError(f"localizer '{name}' makes its own weights; give --checkpoint PATH or none")
    localizer = call_function("localizer", name, checkpoint, device)
    lacking = [part for part in _NEEDED if not hasattr(localizer, part)]
    if lacking:
        raise UsageError(
            f"localizer '{name}' gave a {type(localizer).__name__} without {', '.join(lacking)}; "
            "return afbench.as_localizer(network, name=...)"
        )
    problem = description_problem(localizer)
    if problem:
        raise UsageError(f"localizer '{name}': {problem}")
    return localizer  # type: ignore[no-any-return]


_NEEDED = ("name", "threshold", "weights_sha256", "logits", "probability")


def description_problem(localizer: Localizer) -> str:
    """Say what is wrong in a localizer's name, threshold or hash; "" if nothing is."""
    if not isinstance(localizer.name, str) or not localizer.name:
        return f"name must be a text; found {localizer.name!r}"
    if not isinstance(localizer.threshold, float) or not 0 < localizer.threshold < 1:
        return f"threshold must be a float between 0 and 1; found {localizer.threshold!r}"
    if not re.fullmatch(r"[0-9a-f]{64}", str(localizer.weights_sha256)):
        return f"weights_sha256 must be 64 hex digits; found {localizer.weights_sha256!r}"
    return ""
