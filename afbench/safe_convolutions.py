"""Leave cuDNN out where a network has a convolution that cuDNN gets wrong in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from types import FunctionType, MethodType, ModuleType

import torch
from torch import nn

CUDNN_CHANNEL_PAIRS = 2**18
"""Most pairs of input and output channels that cuDNN may convolve in float32 by more than one pixel.

It may take an FFT that keeps 32 KiB for each pair: up to 8 GiB here. Measured with cuDNN 9.19 on an H200: for the 4 million pairs of
a convolution of MVSS-Net it took 133 GiB, and its results were wrong by 30 % of their length; for 1 million pairs they were
right, but took three times as long as torch's own kernels, which neither choose nor need such memory.
"""


@contextmanager
def safe_convolutions(*owners: object) -> Iterator[None]:
    """Compute the block without cuDNN where it is in plain float32, and networks of ``owners`` need that; TF32 and bf16 keep cuDNN.

    Args:
        owners: networks, or localizers and defences, which hold theirs in attributes.
    """
    cudnn = torch.backends.cudnn
    previous = cudnn.enabled
    is_autocast = torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")
    if not cudnn.allow_tf32 and not is_autocast and not all(map(is_safe_for_cudnn, owners)):
        cudnn.enabled = False
    try:
        yield
    finally:
        cudnn.enabled = previous


@contextmanager
def full_precision(*owners: object) -> Iterator[None]:
    """Compute in plain float32, the same every time: no autocast, no TF32, no algorithm picked by a race; ``owners`` as above."""
    # its default for `enabled` is False
    cudnn = torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
    )
    with (
        cudnn,
        torch.autocast("cuda", enabled=False),
        torch.autocast("cpu", enabled=False),
        safe_convolutions(*owners),
    ):
        yield


def is_safe_for_cudnn(owner: object) -> bool:
    """Say whether no convolution of an owner's networks is too large for cuDNN in float32.

    A localizer that shows no network may hide any, so it is not.
    """
    networks = list(_networks(owner))
    if not networks and hasattr(owner, "logits"):
        return False
    layers = chain.from_iterable(network.modules() for network in networks)
    return not any(map(_is_too_large, layers))


def _is_too_large(layer: nn.Module) -> bool:
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and max(layer.stride) > 1:
        return False  # cuDNN has an FFT for strides of 1 alone
    weights = chain(layer.parameters(recurse=False), layer.buffers(recurse=False))
    kernels = [weight.shape for weight in weights if weight.ndim == 4]
    return any(
        outputs * inputs > CUDNN_CHANNEL_PAIRS and max(sides) > 1 for outputs, inputs, *sides in kernels
    )


def _networks(owner: object) -> Iterator[nn.Module]:
    """Find the networks that an object holds in its attributes, or a function in what it was made with and what it names."""
    waiting, visited = [owner], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, nn.Module):
            yield value
        elif id(value) not in visited and not isinstance(value, (type, ModuleType)):
            visited.add(id(value))
            waiting += _parts(value)


def _parts(value: object) -> Iterator[object]:
    yield from getattr(value, "__dict__", {}).values()
    if isinstance(value, partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, MethodType):
        yield from (value.__self__, value.__func__)
    elif isinstance(value, FunctionType):
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # not yet assigned
                yield cell.cell_contents
        for name in value.__code__.co_names:
            named = value.__globals__.get(name)
            # not what libraries define: their functions name half of torch
            if isinstance(named, nn.Module) or getattr(named, "__module__", None) == value.__module__:
                yield named
