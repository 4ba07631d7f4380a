"""Calls of a network recorded once as a CUDA graph and replayed: a small network costs mostly the launching of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


class _Call(nn.Module):
    """A network under another module, since recording changes the forward pass of the module that it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def replayed(network: nn.Module) -> Callable[..., Any]:
    """Return a network as something to call, whose passes with gradients are replayed on a GPU.

    Every shape of the inputs is recorded once, with the weights' places, not their values. Recording runs a network a few
    times, by which batch norm moves its averages. Without gradients, or on a CPU, the network is called as it is.
    """
    recorded: dict[Any, Callable[..., Any]] = {}

    def call(*inputs: Tensor) -> Any:
        if not torch.is_grad_enabled() or not all(image.is_cuda for image in inputs):
            return network(*inputs)
        key = network.training, *((image.shape, image.requires_grad) for image in inputs)
        if key not in recorded:
            samples = tuple(image.detach().clone().requires_grad_(image.requires_grad) for image in inputs)
            recorded[key] = torch.cuda.make_graphed_callables(_Call(network).train(network.training), samples)
        # the next replay writes into the same memory
        return pytree.tree_map(torch.clone, recorded[key](*inputs))

    return call
