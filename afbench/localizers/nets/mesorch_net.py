"""Mesorch's network: a ConvNeXt on high frequencies and a SegFormer on low ones, and a gate that weighs their maps.

Attribute names are the release's, so that its checkpoints load as they are.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import convnext, mit
from .convnext import ChannelNorm, ConvNextTiny

STRIDE = 32
DEPTHS = (3, 4, 18, 3)
"""Blocks of the SegFormer's stages (MiT-B3)."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HIGH_FROM, _LOW_BELOW = 0.05, 0.95
"""Shares of the lines of coefficients: below the first both ways none is high, and in the last ``_LOW_BELOW`` both ways none is low."""
_GATE_WIDTH = 192
_MAPS = 8
"""Four of each branch."""


class MesorchNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the mask's logit ``(N, 1, H, W)``; H, W multiples of 32.

    Raises:
        ValueError: if a side is no multiple of 32.
    Source: Zhu et al. 2025, Mesorch, AAAI, arXiv 2412.13753.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convnext = ConvNextTiny(inputs=6)
        self.segformer = _SegFormer(inputs=6)
        self.upsample = _Upsamplers()
        self.inverse = nn.ModuleList(
            nn.Conv2d(width, 1, 1) for width in (convnext.WIDTHS[0], mit.WIDTHS[0]) for _ in range(4)
        )
        self.gate = _Gate()

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if height % STRIDE or width % STRIDE or not height or not width:
            raise ValueError(
                f"Mesorch needs height and width to be multiples of {STRIDE}; found {height} x {width}"
            )
        mean, std = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        image = (image - mean) / std
        high, low = frequency_images(image)
        maps = self.upsample(
            self.convnext(torch.cat([image, high], dim=1)), self.segformer(torch.cat([image, low], dim=1))
        )
        answers = torch.cat(
            [project(features) for project, features in zip(self.inverse, maps, strict=True)], dim=1
        )
        weights = self.gate(torch.cat([image, high, low], dim=1))
        logit = (weights * answers).sum(dim=1, keepdim=True)
        return F.interpolate(logit, (height, width), mode="bilinear", align_corners=True)


def frequency_images(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the high and the low frequencies of ``(N, C, H, W)``, each image scaled to [0, 1].

    Low keeps all coefficients that are low in at least one direction, high those that are high in at least one. An image
    without a high band becomes scaled rounding noise, as in the release.
    """
    with torch.autocast(image.device.type, enabled=False):  # half precision drowns the high band
        height, width = image.shape[-2:]
        rows, columns = _dct_matrix(height).to(image), _dct_matrix(width).to(image)
        coefficients = rows @ image @ columns.T
        high, low = (coefficients.clone() for _ in range(2))
        high[..., : int(_HIGH_FROM * height), : int(_HIGH_FROM * width)] = 0
        low[..., height - int(_LOW_BELOW * height) :, width - int(_LOW_BELOW * width) :] = 0
        return _scaled(rows.T @ high @ columns), _scaled(rows.T @ low @ columns)


def _scaled(image: Tensor) -> Tensor:
    """Scale every image to [0, 1]; its least and its largest value have a gradient of their own."""
    values = image.flatten(1)
    least, largest = (extreme.values[:, None, None, None] for extreme in (values.min(1), values.max(1)))
    return (image - least) / (largest - least)


@lru_cache(maxsize=16)
def _dct_matrix(side: int) -> Tensor:
    """Build the DCT-II matrix in float32 on the CPU, in the release's order of operations.

    At a side of 512 its entries are off by up to 1e-5, which the released weights were trained with.
    """
    line = torch.arange(side, dtype=torch.float32, device="cpu")
    angle = (
        torch.tensor(torch.pi, dtype=torch.float32, device="cpu")
        * line[:, None]
        * (2 * line + 1)
        / (2 * side)
    )
    matrix = torch.cos(angle) * torch.tensor(2 / side, dtype=torch.float32, device="cpu").sqrt()
    matrix[0] = torch.tensor(1 / side, dtype=torch.float32, device="cpu").sqrt()
    return matrix


class _SegFormer(nn.Module):
    """MiT-B3: image ``(N, inputs, H, W)`` to the maps of its four stages, fine to coarse."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        for stage in range(4):
            embedding = mit.mit_embedding(stage, inputs, first_bias=False)
            self.add_module(f"patch_embed{stage + 1}", embedding)
        for stage, depth in enumerate(DEPTHS):
            self.add_module(f"block{stage + 1}", mit.mit_blocks(stage, depth))
            self.add_module(f"norm{stage + 1}", mit.mit_norm(stage))

    def forward(self, image: Tensor) -> list[Tensor]:
        features, maps = image, []
        for stage in range(1, 5):
            embedding, blocks, norm = (
                self.get_submodule(f"{part}{stage}") for part in ("patch_embed", "block", "norm")
            )
            features = mit.run_stage(embedding, blocks, norm, features)  # type: ignore[arg-type]
            maps.append(features)
        return maps


class _Upsamplers(nn.Module):
    """Bring the maps of both branches to a quarter of the image's side, and the width of each branch's first map."""

    def __init__(self) -> None:
        super().__init__()
        for stage in (1, 2, 3):
            for letter, widths in (("c", convnext.WIDTHS), ("s", mit.WIDTHS)):
                doublings = [_doubling(widths[k], widths[k - 1]) for k in range(stage, 0, -1)]
                chain = nn.Sequential(*doublings) if stage > 1 else doublings[0]
                self.add_module(f"upsample{letter}{stage + 1}", chain)

    def forward(self, conv_maps: list[Tensor], attention_maps: list[Tensor]) -> list[Tensor]:
        return [
            features if stage == 1 else self.get_submodule(f"upsample{letter}{stage}")(features)
            for letter, maps in (("c", conv_maps), ("s", attention_maps))
            for stage, features in enumerate(maps, start=1)
        ]


def _doubling(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)


class _Gate(nn.Module):
    """Weigh the eight maps at every pixel of a quarter of the image's side; the weights of a pixel sum to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(9, _GATE_WIDTH, 7, stride=2, padding=3)
        self.invert = nn.Sequential(
            ChannelNorm(_GATE_WIDTH),
            nn.Conv2d(_GATE_WIDTH, _GATE_WIDTH, 3, padding=1),
            nn.Conv2d(_GATE_WIDTH, 4 * _GATE_WIDTH, 1),
            nn.Conv2d(4 * _GATE_WIDTH, _GATE_WIDTH, 1),
            nn.GELU(),
        )
        self.conv2 = nn.Conv2d(_GATE_WIDTH, _MAPS, 7, stride=2, padding=3)

    def forward(self, image: Tensor) -> Tensor:
        features = self.conv1(image)
        return torch.softmax(self.conv2(features + self.invert(features)), dim=1)
