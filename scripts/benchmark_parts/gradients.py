"""What one batch's gradient costs: seconds and arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from afbench.core import Localizer

from .clock import Clock

OWN_SIZE = 256
"""Side of the image for localizers that take it as it is."""


def official_side(localizer: Localizer) -> int:
    """Return the side of the square that a localizer makes of every image, or ``OWN_SIZE`` where it does not."""
    return int(getattr(localizer, "side", None) or getattr(localizer, "canvas", None) or OWN_SIZE)


def random_images(batch: int, side: int, device: str) -> Tensor:
    """Make images ``(N, 3, H, W)`` in [0, 1] that require a gradient."""
    return torch.rand(batch, 3, side, side, device=device, requires_grad=True)


def time_gradient(localizer: Localizer, image: Tensor, clock: Clock) -> float:
    """Time one batch's gradient, in seconds."""
    return clock(lambda: torch.autograd.grad(localizer.logits(image).sum(), image))


def gigaflops(localizer: Localizer, image: Tensor) -> tuple[float, float]:
    """Count the arithmetic of one image's forward pass, and of its gradient, which includes the forward pass."""
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        localizer.logits(image)
    with FlopCounterMode(display=False) as gradient:
        torch.autograd.grad(localizer.logits(image).sum(), image)
    return forward.get_total_flops() / len(image) / 1e9, gradient.get_total_flops() / len(image) / 1e9
