"""Published networks under weights that cost nothing to draw, and what they give for a small image."""

import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from fill import GAIN, is_fixed, scaled
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from afbench.localizers.load import recipe

GOLDEN = Path(__file__).parent / "golden" / "tiled.npz"
"""What networks that pass the golden tests of the official weights (marked slow) give here, in float64."""
SIZES = {"mesorch": (32, 64), "imlvit": (32, 48), "trufor": (29, 40), "pscc": (17, 24)}
"""Legal, and quick."""
BLOCK = np.random.Generator(np.random.PCG64(0)).standard_normal(65_537)
"""Each tensor repeats these numbers, from a place of its own; their count is prime, so that no two rows are alike."""


_DRAWS = {"uniform_", "normal_", "kaiming_uniform_", "kaiming_normal_", "trunc_normal_", "xavier_uniform_"}


class _NoDraws(TorchFunctionMode):
    """Leave tensors as they are where they would be drawn: a hundred million random numbers take seconds."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def undrawn_network(name: str) -> nn.Module:
    """Build a localizer's network whose weights are whatever the memory held, for all but its fixed filters."""
    with _NoDraws():
        return recipe(name).network()


def tiled_network(name: str) -> nn.Module:
    """Build a localizer's network with repeated numbers as its weights; float32, evaluation mode, frozen."""
    network = undrawn_network(name)
    network.load_state_dict(
        {key: _tiled(key, value, GAIN[name]) for key, value in network.state_dict().items()}, assign=True
    )
    return network.eval().requires_grad_(False)


def shrunken_network(name: str) -> nn.Module:
    """Build a localizer's network whose large weights are cut to 8 numbers a side: for what only names and files show."""
    network = undrawn_network(name)
    for module in network.modules():
        for entries in (module._parameters, module._buffers):
            for key, value in entries.items():
                if value is not None and value.numel() > 4096:
                    part = value.detach()[tuple(slice(8) for _ in value.shape)].clone()
                    entries[key] = nn.Parameter(part) if entries is module._parameters else part
    network.load_state_dict(
        {key: _tiled(key, value, GAIN[name]) for key, value in network.state_dict().items()}
    )
    return network


def _tiled(key: str, value: Tensor, gain: float) -> Tensor:
    leaf, shape = key.rpartition(".")[2], tuple(value.shape)
    if is_fixed(key):
        return value
    if leaf == "num_batches_tracked":
        return torch.zeros(value.shape, dtype=value.dtype)
    block = np.roll(BLOCK, zlib.crc32(key.encode()) % len(BLOCK))
    numbers = scaled(block, key, leaf, shape, gain).astype(np.float32)
    return torch.from_numpy(np.resize(numbers, prod(shape)).reshape(shape))


class SmallResult(NamedTuple):
    """Probability ``(1, 1, H, W)`` of a small image, and the gradient of its cross-entropy."""

    probability: Tensor
    gradient: Tensor


def small_result(network: nn.Module, name: str) -> SmallResult:
    """Compute what a network gives for its small image, in the precision of its weights."""
    dtype, size = next(network.parameters()).dtype, SIZES[name]
    draw = np.random.Generator(np.random.PCG64(5))
    image = torch.from_numpy(draw.random((1, 3, *size))).to(dtype).requires_grad_()
    target = torch.from_numpy(draw.random((1, 1, *size)) > 0.5).to(dtype)
    logits = recipe(name).logits(recipe(name).answer(network, image), size)
    (gradient,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, target), image)
    return SmallResult(torch.sigmoid(logits.detach()), gradient)


def distances(result: SmallResult, name: str) -> tuple[float, float]:
    """Compare with the stored numbers: the largest difference of probability, and the gradient's relative distance."""
    with np.load(GOLDEN) as stored:
        probability, gradient = (torch.from_numpy(stored[f"{name}_{part}"]) for part in ("prob", "grad"))
    apart = (result.gradient - gradient).norm() / gradient.norm()
    return float((result.probability - probability).abs().max()), float(apart)
