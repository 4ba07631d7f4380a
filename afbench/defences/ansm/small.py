"""``small``: a U-Net down to 1/8 of the side, 0.2 M parameters, which trains on a CPU in minutes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.localizers.nets.reference_net import srm_kernels, with_z_score

WIDTHS = (16, 32, 48, 64)
SRM_LEVELS = 3.0
"""Levels at which a residual is halved, so that edges do not drown the noise a camera leaves."""


class FeatureShape(NamedTuple):
    """Channels of an encoder's feature maps, fine to coarse, and the fraction of the side each has (1, 2, 4, ...)."""

    channels: tuple[int, ...]
    reductions: tuple[int, ...]


class SmallEncoder(nn.Module):
    """Four levels, from full size to 1/8, on forensic residuals and colour.

    The first stays at full size, since noise is made by the pixel.
    """

    fixed: Tensor
    feature_shape = FeatureShape(WIDTHS, (1, 2, 4, 8))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fixed", srm_kernels(), persistent=False)  # no weights: no file holds them
        self.levels = nn.ModuleList()
        channels = len(self.fixed) + 3
        for width in WIDTHS:
            first = conv_block(channels, width)
            self.levels.append(nn.Sequential(first, conv_block(width, width)) if self.levels else first)
            channels = width

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn ``(N, 3, H, W)`` in [0, 1], sides multiples of 8, into the four maps, fine to coarse."""
        with torch.autocast(image.device.type, enabled=False):  # half precision cannot hold 255 levels
            residual = F.conv2d(F.pad(255.0 * image, (2, 2, 2, 2), mode="replicate"), self.fixed)
            features = torch.cat([residual / (1.0 + residual.abs() / SRM_LEVELS), 2.0 * image - 1.0], 1)
        maps: list[Tensor] = []
        for level in self.levels:
            if maps:
                features = F.avg_pool2d(features, 2) if len(maps) == 1 else F.max_pool2d(features, 2)
            features = level(features)
            maps.append(features)
        return maps


class SmallDecoder(nn.Module):
    """Back up to full size, a skip at each level.

    Beside each map but the finest stands how far every place lies from its own image's mean: a short training does not
    find out by convolutions alone that a forged region is what differs from the rest.
    """

    width = WIDTHS[0]

    def __init__(self) -> None:
        super().__init__()
        self.up, self.fuse = nn.ModuleList(), nn.ModuleList()
        channels = 2 * WIDTHS[-1]
        for width in reversed(WIDTHS[:-1]):
            skip = width if width == WIDTHS[0] else 2 * width  # the coarser maps with their z-scores
            self.up.append(nn.Conv2d(channels, width, 1, bias=False))
            self.fuse.append(conv_block(width + skip, width))
            channels = width

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Turn the encoder's maps into ``(N, 16, H, W)``."""
        finest, *coarser = maps
        skips = [finest, *(with_z_score(feature_map) for feature_map in coarser)]
        features = skips.pop()
        for up, fuse in zip(self.up, self.fuse, strict=True):
            features = F.interpolate(up(features), scale_factor=2.0, mode="bilinear", align_corners=False)
            features = fuse(torch.cat([features, skips.pop()], 1))
        return features


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
