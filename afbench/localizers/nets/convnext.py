"""ConvNeXt-tiny without its classifier, under the names of timm's class.

Source: Liu et al. 2022, A ConvNet for the 2020s, CVPR, arXiv 2201.03545.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

WIDTHS = (96, 192, 384, 768)
"""Channels of the four stages; the maps have 1/4, 1/8, 1/16 and 1/32 of the image's side."""
DEPTHS = (3, 3, 9, 3)
_CLASSES = 1000


class ConvNextTiny(nn.Module):
    """Image ``(N, inputs, H, W)`` to the maps of the four stages, fine to coarse; H, W multiples of 32."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, WIDTHS[0], 4, stride=4, bias=False), ChannelNorm(WIDTHS[0])
        )
        self.stages = nn.Sequential(*(_ConvNextStage(stage) for stage in range(len(WIDTHS))))
        # part of the checkpoint, and never computed
        self.head = nn.Sequential(
            OrderedDict(norm=nn.LayerNorm(WIDTHS[-1], eps=1e-6), fc=nn.Linear(WIDTHS[-1], _CLASSES))
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.stem(image)
        maps = []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return maps


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of a map ``(N, C, H, W)``."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _ConvNextStage(nn.Module):
    def __init__(self, stage: int) -> None:
        super().__init__()
        width = WIDTHS[stage]
        self.downsample = (
            nn.Sequential(ChannelNorm(WIDTHS[stage - 1]), nn.Conv2d(WIDTHS[stage - 1], width, 2, stride=2))
            if stage
            else nn.Identity()
        )
        self.blocks = nn.Sequential(*(_ConvNextBlock(width) for _ in range(DEPTHS[stage])))

    def forward(self, features: Tensor) -> Tensor:
        return self.blocks(self.downsample(features))  # type: ignore[no-any-return]


class _ConvNextBlock(nn.Module):
    """A wide depthwise convolution and an MLP on every pixel, scaled and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            OrderedDict(fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width))
        )

    def forward(self, features: Tensor) -> Tensor:
        pixels = self.mlp(self.norm(self.conv_dw(features).permute(0, 2, 3, 1)))
        scaled: Tensor = self.gamma * pixels
        return features + scaled.permute(0, 3, 1, 2)
