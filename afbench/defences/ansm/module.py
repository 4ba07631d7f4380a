"""The module: an encoder, a decoder with skips, and two heads whose product is the noise it adds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.defences.padding import pad

from .encoders import NO_WEIGHTS, SMALL, build_encoder
from .small import FeatureShape, SmallDecoder, conv_block

MULTIPLE = 32
"""Sides are padded to a multiple of this, and cropped back."""
_WIDTHS = (256, 128, 64, 32, 16)


class Ansm(nn.Module):
    """Anti-noise from an image: ``TRUNC(X + S(X))`` with ``S = bound * softsign(head 1) * sigmoid(head 2)``.

    Source: the ANSM paper, section IV-A, Eq. 5-8.
    Differs: five up blocks (x2, conv3x3, BN, ReLU) reach full size from 1/32, as the paper's figure shows; skips are
    concatenated at 1/16 to 1/2 before the fusion blocks, which the paper leaves open. The first head starts at 0, so
    that training starts from an image that is left alone. The paper has no bound (1).
    """

    def __init__(
        self, encoder: str = "efficientnet_b4", encoder_weights: str = NO_WEIGHTS, *, bound: float = 1.0
    ) -> None:
        super().__init__()
        self.bound = bound
        self.encoder = build_encoder(encoder, encoder_weights)
        self.decoder = SmallDecoder() if encoder == SMALL else Decoder(self.encoder.feature_shape)
        self.sign, self.size = _head(self.decoder.width), _head(self.decoder.width)
        last = self.sign[3]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        nn.init.zeros_(last.weight)  # softsign(0) = 0: no noise at first
        nn.init.zeros_(last.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Purify ``(N, 3, H, W)`` in [0, 1], any H and W; shape and range stay."""
        return (image + self.noise(image)).clamp(0.0, 1.0)

    def noise(self, image: Tensor) -> Tensor:
        """Return the noise that is added, ``S(X)``: the same shape, each value in (-bound, bound)."""
        sign, size = self.heads(image)
        return self.bound * (sign * size) if self.bound != 1.0 else sign * size

    def heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two factors of the noise: in (-1, 1) and in (0, 1), each ``(N, 3, H, W)``."""
        height, width = image.shape[-2:]
        features = self.decoder(self.encoder(pad(image, MULTIPLE)))
        sign, size = F.softsign(self.sign(features)), torch.sigmoid(self.size(features))
        return sign[..., :height, :width], size[..., :height, :width]


class Decoder(nn.Module):
    """Up blocks from the coarsest map to full size, a fusion block wherever a finer map joins."""

    width = _WIDTHS[-1]

    def __init__(self, shape: FeatureShape) -> None:
        super().__init__()
        skips = dict(zip(*reversed(shape), strict=True))
        channels = shape.channels[-1]
        # a block doubles the side, so each joins the map of half the reduction before it
        self.joins = [shape.reductions[-1] >> (block + 1) for block in range(len(_WIDTHS))]
        self.up, self.fuse = nn.ModuleList(), nn.ModuleList()
        for reduction, width in zip(self.joins, _WIDTHS, strict=True):
            joined = skips.get(reduction, 0)
            self.up.append(_up(channels, width))
            self.fuse.append(_fusion(width + joined, width) if joined else nn.Identity())
            channels = width
        self.reductions = shape.reductions

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Turn feature maps, fine to coarse, into ``(N, 16, H, W)``."""
        skips = dict(zip(self.reductions, maps, strict=True))
        features = maps[-1]
        for reduction, up, fuse in zip(self.joins, self.up, self.fuse, strict=True):
            features = up(features)
            if reduction in skips:
                features = fuse(torch.cat([features, skips[reduction]], 1))
        return features


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False), *conv_block(inputs, outputs)
    )


def _fusion(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(*conv_block(channels, channels), nn.Conv2d(channels, 3, 3, padding=1))
