"""The network of the embedded localizer: residual filters, a small encoder, and self-consistency features.

Our own network. It uses three published ideas: fixed high-pass residuals (Fridrich and Kodovsky 2012, SRM), a learned
prediction-error filter (Bayar and Stamm 2016), and the comparison of each place with the rest of the same image
(ManTra-Net's z-score, Wu et al. 2019).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (16, 32, 64, 128)
"""Encoder channels at 1/2, 1/4, 1/8 and 1/16 of the image's side."""
DEPTHS = (1, 2, 3, 2)
"""Convolutions after the strided one at each level; the fine levels cost most of the time, so they are shallow."""
FUSED = (16, 32, 48, 64)
"""Decoder channels at the same levels."""
STRIDE = 16

_SRM = (
    ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0)),
    ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1)),
    ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0)),
)
_SRM_SCALE = (4.0, 12.0, 2.0)
_BAYAR = 4
_SQUASH = (3.0,) * 9 + (5.0,) * _BAYAR + (1e6,) * 3
"""Levels at which a channel saturates: nine SRM residuals, the Bayar filters, and colour, which does not."""


class ReferenceNet(nn.Module):
    """Image ``(N, 3, H, W)`` in [0, 1] to a forgery logit ``(N, 1, H, W)``; any H, W."""

    fixed: Tensor
    squash: Tensor
    gain: Tensor
    bayar: nn.Parameter
    stages: nn.ModuleList

    def __init__(self) -> None:
        super().__init__()
        _add_encoder(self)
        self.squeeze = nn.ModuleList(_block(2 * a, b, 1) for a, b in zip(WIDTHS, FUSED, strict=True))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1, bias=False) for a, b in pairwise(FUSED))
        self.merge = nn.ModuleList(_block(width, width, 3) for width in FUSED[:-1])
        self.head = nn.Conv2d(FUSED[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.decode(self.skips(image), *image.shape[-2:])

    def decode(self, skips: list[Tensor], height: int, width: int) -> Tensor:
        """Turn the encoder's maps into the logit ``(N, 1, height, width)`` of an image of that size."""
        fused = self.squeeze[-1](with_z_score(skips[-1]))
        for level in range(len(WIDTHS) - 2, -1, -1):
            coarse = F.interpolate(self.narrow[level](fused), scale_factor=2.0, mode="bilinear")
            fused = self.merge[level](self.squeeze[level](with_z_score(skips[level])) + coarse)
        logits = F.interpolate(self.head(fused), scale_factor=2.0, mode="bilinear")
        return logits[..., :height, :width]

    def skips(self, image: Tensor) -> list[Tensor]:
        """Return the encoder's four feature maps, fine to coarse; the image is padded to multiples of 16."""
        return _encode(self, image)


class ForensicEncoder(nn.Module):
    """The encoder as a network of its own, by name too, so that its weights can start a classifier; 0.5 M parameters.

    What tells a forger's camera is a few of 255 levels, and learning to see that from nothing takes most of a short training.
    """

    fixed: Tensor
    squash: Tensor
    gain: Tensor
    bayar: nn.Parameter
    stages: nn.ModuleList

    def __init__(self) -> None:
        super().__init__()
        _add_encoder(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Turn ``(N, 3, H, W)`` in [0, 1] into the four maps, fine to coarse; sides are padded to multiples of 16."""
        return _encode(self, image)


def _add_encoder(network: nn.Module) -> None:
    """Give a network the encoder's filters and weights as its own, so that checkpoints name them without a prefix."""
    network.register_buffer("fixed", torch.cat([srm_kernels(), _colour_kernels()]), persistent=False)
    network.register_buffer("squash", torch.tensor(_SQUASH).view(1, -1, 1, 1), persistent=False)
    network.register_buffer("gain", _gains(), persistent=False)
    network.bayar = nn.Parameter(0.1 * torch.randn(_BAYAR, 3, 24))
    inputs = (len(_SQUASH), *WIDTHS[:-1])
    network.stages = nn.ModuleList(
        nn.Sequential(_block(a, b, 3, stride=2), *(_block(b, b, 3) for _ in range(depth)))
        for a, b, depth in zip(inputs, WIDTHS, DEPTHS, strict=True)
    )


def _encode(network: ReferenceNet | ForensicEncoder, image: Tensor) -> list[Tensor]:
    """Return the four feature maps of a network's encoder, fine to coarse; the image is padded to multiples of 16."""
    height, width = image.shape[-2:]
    border = (2, 2 + -width % STRIDE, 2, 2 + -height % STRIDE)
    with torch.autocast(image.device.type, enabled=False):  # half precision cannot hold 255 levels
        levels = F.pad(255.0 * image, border, mode="replicate")
        residual = F.conv2d(levels, _kernels(network))
        # squashing keeps a strong edge from drowning the noise, and a large gradient from exploding
        features = network.gain * residual / (1 + residual.abs() / network.squash)
    skips = []
    for stage in network.stages:
        features = stage(features)
        skips.append(features)
    return skips


def _kernels(network: ReferenceNet | ForensicEncoder) -> Tensor:
    """Return all filters of the first layer, ``(16, 3, 5, 5)``: SRM, prediction errors, and the colour itself.

    A prediction-error filter has -1 at the centre of each plane and its other taps sum to 1.
    """
    weights = network.bayar - network.bayar.mean(dim=-1, keepdim=True) + 1.0 / network.bayar.shape[-1]
    centre = weights.new_full((_BAYAR, 3, 1), -1.0)
    bayar = torch.cat([weights[..., :12], centre, weights[..., 12:]], dim=-1).view(_BAYAR, 3, 5, 5)
    return torch.cat([network.fixed[:9], bayar, network.fixed[9:]])


def srm_kernels() -> Tensor:
    """Return ``(9, 3, 5, 5)``: three residual filters (Fridrich and Kodovsky 2012) for each colour."""
    kernels = torch.zeros(9, 3, 5, 5)
    for colour in range(3):
        for row, (kernel, scale) in enumerate(zip(_SRM, _SRM_SCALE, strict=True)):
            kernels[3 * colour + row, colour] = torch.tensor(kernel) / scale
    return kernels


def _colour_kernels() -> Tensor:
    """Return ``(3, 3, 5, 5)``: the identity of each colour."""
    kernels = torch.zeros(3, 3, 5, 5)
    kernels[range(3), range(3), 2, 2] = 1.0
    return kernels


def _gains() -> Tensor:
    gains = torch.ones(len(_SQUASH))
    gains[-3:] = 1.0 / 64.0
    return gains.view(1, -1, 1, 1)


def _block(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def with_z_score(features: Tensor) -> Tensor:
    """Append the z-score of each place: its distance from its image's mean, in that image's standard deviations."""
    return torch.cat([features, z_score(features)], dim=1)


def z_score(features: Tensor) -> Tensor:
    """Express features as deviations from each image's and channel's mean, in its standard deviations.

    Source: Wu et al. 2019, ManTra-Net, section 3.3 (there over windows too).
    """
    centred = features - features.mean(dim=(2, 3), keepdim=True)
    variance = (centred * centred).mean(dim=(2, 3), keepdim=True)
    return centred * (variance + 1e-4).rsqrt()
