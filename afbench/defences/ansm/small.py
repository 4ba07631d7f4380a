"""``small``: a U-Net down to 1/8 of the side, 0.2 M parameters, which trains on a CPU in minutes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .feature_shape import FeatureShape

WIDTHS = (16, 32, 48, 64)
_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4.0, 12.0, 2.0)
SRM_LEVELS = 3.0
"""Levels at which a residual is halved, so that edges do not drown the noise a camera leaves."""


class SmallEncoder(nn.Module):
    """Four levels, from full size to 1/8, on forensic residuals and colour.

    The first stays at full size, since noise is made by the pixel.
    """

    fixed: Tensor
    feature_shape = FeatureShape(WIDTHS, (1, 2, 4, 8))

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fixed", srm_kernels(), persistent=False)
        self.levels = nn.ModuleList()
        channels = len(self.fixed) + 3
        for width in WIDTHS:
            first = conv_block(channels, width)
            self.levels.append(nn.Sequential(first, conv_block(width, width)) if self.levels else first)
            channels = width

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn ``(N, 3, H, W)`` in [0, 1], sides multiples of 8, into the four maps, fine to coarse."""
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
            skip = width if width == WIDTHS[0] else 2 * width
            self.up.append(nn.Conv2d(channels, width, 1, bias=False))
            self.fuse.append(conv_block(width + skip, width))
            channels = width

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Turn the encoder's maps into ``(N, 16, H, W)``."""
        finest, *coarser = maps
        skips = [finest, *(torch.cat([feature_map, z_score(feature_map)], 1) for feature_map in coarser)]
        features = skips.pop()
        for up, fuse in zip(self.up, self.fuse, strict=True):
            features = F.interpolate(up(features), scale_factor=2.0, mode="bilinear", align_corners=False)
            features = fuse(torch.cat([features, skips.pop()], 1))
        return features


def z_score(features: Tensor) -> Tensor:
    """Express features as deviations from each image's and channel's mean, in its standard deviations.

    Source: Wu et al. 2019, ManTra-Net, section 3.3 (there over windows too).
    """
    centred = features - features.mean(dim=(2, 3), keepdim=True)
    return centred * ((centred * centred).mean(dim=(2, 3), keepdim=True) + 1e-4).rsqrt()


def srm_kernels() -> Tensor:
    """Return ``(9, 3, 5, 5)``: three residual filters (Fridrich and Kodovsky 2012) for each colour."""
    kernels = torch.zeros(9, 3, 5, 5)
    for colour in range(3):
        for row, (kernel, scale) in enumerate(zip(_SRM, _SRM_SCALE, strict=True)):
            kernels[3 * colour + row, colour] = torch.tensor(kernel) / scale
    return kernels


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
