"""Deterministic weights for golden tests: every tensor is drawn from a stream named by its own key."""

import zlib
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

GAIN = {
    "mvss": 1.1,
    "ifosn": 1.25,
    "hdfnet": 0.7,
    "code": 1.3,
    "pscc": 1.15,
    "mesorch": 1.2,
    "imlvit": 1.2,
    "trufor": 1.4,
}
"""Of tensors of two and more dimensions, so that the output is neither constant nor saturated."""


def fill(network: nn.Module, name: str) -> nn.Module:
    """Fill a localizer's network with the weights its golden vectors were made with; evaluation mode, frozen.

    A network without fixed filters may be on the meta device, which saves drawing weights twice.
    """
    network.load_state_dict(
        {key: _draw(key, value, GAIN[name]) for key, value in network.state_dict().items()}, assign=True
    )
    return network.eval().requires_grad_(False)


def _draw(key: str, value: Tensor, gain: float) -> Tensor:
    leaf = key.rpartition(".")[2]
    if is_fixed(key):
        return value
    if leaf == "num_batches_tracked":
        return torch.zeros(value.shape, dtype=value.dtype)
    shape = tuple(value.shape)
    z = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).standard_normal(shape)
    return torch.from_numpy(np.asarray(scaled(z, key, leaf, shape, gain), dtype=np.float32))


def is_fixed(key: str) -> bool:
    """Say whether an entry is a fixed filter, which no checkpoint changes."""
    return (key.startswith(("sobel_x", "sobel_y")) and key.endswith(".0.weight")) or key == "srm.SRMWeights"


def scaled(z: np.ndarray, key: str, leaf: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    """Scale standard normal numbers to what an entry of this name and shape needs."""
    offset, factor = 0.0, 0.1
    if leaf == "running_var":
        offset, z = 1.0, np.abs(z)
    elif key == "constrain_conv.kernel":
        offset, factor, z = 0.1, 1.0, np.abs(z)  # keeps the sum of its taps away from 0
    elif leaf in ("pos_embedding", "pos_embed"):
        factor = 0.5
    elif len(shape) >= 2:
        factor = gain / np.sqrt(prod(shape[1:]))
    elif leaf == "weight":
        offset = 1.0
    elif leaf in ("alpha", "beta", "gamma", "gamma_s", "gamma_c"):
        offset = 0.5
    elif leaf not in ("running_mean", "bias"):
        raise AssertionError(f"no rule for {key}")
    return offset + factor * z
