"""The arithmetic of a training: the same every time, and stopped where it leaves the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import torch
from torch import Tensor, nn


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
