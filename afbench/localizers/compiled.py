"""``--compile``: run a localizer's network through torch.compile."""

from __future__ import annotations

import torch
from torch import nn

from afbench.core import Localizer, UsageError


def compile_forward(localizer: Localizer) -> None:
    """Compile the forward pass of a localizer that was just loaded, and try it; attacks themselves are not compiled.

    All sizes share one compiled form. With one form for each size, the kernels for an image would depend on the images
    before it.

    Raises:
        UsageError: if it has no ``network``, or the compiler fails.
    """
    network = getattr(localizer, "network", None)
    if not isinstance(network, nn.Module):
        raise UsageError(
            f"--compile needs a localizer with a `network`; '{localizer.name}' has none: leave the option out"
        )
    parameter = next(network.parameters(), None)
    device = "cpu" if parameter is None else parameter.device
    try:
        network.compile(dynamic=True)
        # torch.compile treats a batch of 1 as a constant, so both of its forms are compiled and tried
        for number in (1, 2):
            image = torch.full((number, 3, 64, 64), 0.5, device=device, requires_grad=True)
            torch.autograd.grad(localizer.logits(image).sum(), image)
    except Exception as error:  # the compiler, and the compilers it calls, fail in many ways
        message = next((line for line in str(error).splitlines() if line.strip()), "")[:160]
        raise UsageError(
            f"--compile: torch.compile cannot make '{localizer.name}' ({type(error).__name__}: {message}); leave the option out"
        ) from None
