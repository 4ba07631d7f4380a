"""The embedded localizer's encoder as a network of its own, so that its weights can start a classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.defences.ansm.small import srm_kernels

WIDTHS, _DEPTHS = (16, 32, 64, 128), (1, 2, 3, 2)
"""Channels by level, and convolutions after the strided one."""
_BAYAR = 4
_SQUASH = (3.0,) * 9 + (5.0,) * _BAYAR + (1e6,) * 3
"""Levels at which a residual is halved, so that edges do not drown the noise a camera leaves; colour is not."""
_CHANNELS = len(_SQUASH)


class ForensicEncoder(nn.Module):
    """Four levels from 1/2 to 1/16 of the side on forensic residuals, 0.5 M parameters.

    The layers are those of the embedded localizer's encoder, by name too: what tells a forger's camera is a few of 255
    levels, and learning to see that from nothing takes most of a short training.
    """

    fixed: Tensor
    squash: Tensor
    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fixed", srm_kernels(), persistent=False)
        self.register_buffer("squash", torch.tensor(_SQUASH).view(1, -1, 1, 1), persistent=False)
        gain = torch.tensor([1.0] * (_CHANNELS - 3) + [1.0 / 64.0] * 3)
        self.register_buffer("gain", gain.view(1, -1, 1, 1), persistent=False)
        self.bayar = nn.Parameter(0.1 * torch.randn(_BAYAR, 3, 24))
        self.stages = nn.ModuleList(
            nn.Sequential(_block(a, b, stride=2), *(_block(b, b) for _ in range(depth)))
            for a, b, depth in zip((_CHANNELS, *WIDTHS[:-1]), WIDTHS, _DEPTHS, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)`` in [0, 1], sides multiples of 16, to the four maps."""
        levels = F.pad(255.0 * image, (2, 2, 2, 2), mode="replicate")
        residual = F.conv2d(levels, self._kernels())
        features = self.gain * residual / (1.0 + residual.abs() / self.squash)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps

    def _kernels(self) -> Tensor:
        """``(16, 3, 5, 5)``: SRM, prediction errors (Bayar and Stamm 2016: centre -1, the rest sums to 1), colour."""
        weights = self.bayar - self.bayar.mean(dim=-1, keepdim=True) + 1.0 / self.bayar.shape[-1]
        centre = weights.new_full((_BAYAR, 3, 1), -1.0)
        colour = weights.new_zeros(3, 3, 5, 5)
        colour[range(3), range(3), 2, 2] = 1.0
        errors = torch.cat([weights[..., :12], centre, weights[..., 12:]], dim=-1).view(_BAYAR, 3, 5, 5)
        return torch.cat([self.fixed, errors, colour])


def _block(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
