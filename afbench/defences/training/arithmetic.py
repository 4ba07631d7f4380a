"""The arithmetic of a training: the same every time, and stopped where it leaves the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import compress

import torch
from torch import Tensor, nn

from afbench.core import Localizer

CUDNN_CHANNEL_PAIRS = 2**18
"""Most pairs of input and output channels that cuDNN may convolve in float32 by more than one pixel.

It may take an FFT that keeps 32 KiB for each pair: up to 8 GiB here. For MVSS-Net's 4 million pairs it took 133 GiB, and its results
were wrong (``afbench.engine.precision.CUDNN_PRECISIONS``).
"""


@contextmanager
def full_precision(*networks: nn.Module) -> Iterator[None]:
    """Compute in plain float32, the same every time: no autocast, no TF32, no algorithm picked by a race.

    cuDNN is left out where one of the networks has a convolution that is too large for it.
    """
    cudnn = torch.backends.cudnn.flags(
        enabled=not any(map(_is_too_large_for_cudnn, networks)),
        benchmark=False,
        deterministic=True,
        allow_tf32=False,
    )
    with cudnn, torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        yield


def networks_of(localizer: Localizer) -> list[nn.Module]:
    """Return the network of a localizer in a list, or an empty list where it shows none."""
    network = getattr(localizer, "network", None)
    return [network] if isinstance(network, nn.Module) else []


def _is_too_large_for_cudnn(network: nn.Module) -> bool:
    """Say whether a network has a convolution of more pairs of channels than ``CUDNN_CHANNEL_PAIRS``, wider than a pixel."""
    kernels = [weight.shape for weight in network.parameters() if weight.ndim == 4]
    return any(
        outputs * inputs > CUDNN_CHANNEL_PAIRS and max(sides) > 1 for outputs, inputs, *sides in kernels
    )


def accumulate_gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
    """Take gradients by a backward pass, in which the hooks of several processes average them."""
    torch.autograd.backward(loss)


def assign_gradients(loss: Tensor, weights: Sequence[nn.Parameter]) -> None:
    """Take the gradients of ``weights`` alone, in the memory order they were computed in.

    A backward pass would bring them to the weights' order, and the norm that clipping divides by sums in that order: the
    last bit of a training depends on it.
    """
    gradients = torch.autograd.grad(loss, weights, allow_unused=True)  # a branch no loss reads has none
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient


def all_finite(network: nn.Module) -> bool:
    """Say whether every weight is a number."""
    return all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())


def blend(average: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    """Move a running average, in place, towards the values it follows; counters are copied."""
    moving = [value.is_floating_point() for value in values]
    with torch.no_grad():
        torch._foreach_lerp_(list(compress(average, moving)), list(compress(values, moving)), 1 - decay)
        for mean, value, moves in zip(average, values, moving, strict=True):
            if not moves:
                mean.copy_(value)
