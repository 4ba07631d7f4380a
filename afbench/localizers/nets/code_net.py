"""The actor of CoDE: an EfficientNet-b4 encoder, a decoder, and a small head that redraws the mask in three steps."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 3
RATE = 0.5
"""Change of the mask in one step for a mean of 1."""
STRIDE = 32


class BottleneckGroup(NamedTuple):
    """Equal inverted bottlenecks in a row; the first changes the width, and the size by ``stride``.

    The first adds ``pad`` before and after each side. The release fixed it for images of 380 pixels, so it does not
    follow from the size of ours.
    """

    blocks: int
    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int
    pad: tuple[int, int]


STEM_PAD = (0, 1)
DOWN1 = (BottleneckGroup(2, 3, 1, 1, 48, 24, (1, 1)), BottleneckGroup(4, 3, 2, 6, 24, 32, (0, 1)))
DOWN2 = (BottleneckGroup(4, 5, 2, 6, 32, 56, (2, 2)),)
DOWN3 = (BottleneckGroup(6, 3, 2, 6, 56, 112, (0, 1)),)
DOWN4 = (BottleneckGroup(6, 5, 1, 6, 112, 160, (2, 2)), BottleneckGroup(8, 5, 2, 6, 160, 272, (1, 2)))


class CodeNet(nn.Module):
    """Image ``(N, 3, H, W)``, RGB in [0, 1], to the forgery map ``(N, 1, H, W)`` in [0, 1]; H, W multiples of 32.

    The map starts at 0 and is moved three times by a mean that depends on the image and on the map so far.

    Source: Peng et al. 2024 (CoDE), IEEE TIFS; the blocks are those of Tan and Le 2019 (EfficientNet), ICML.
    Differs: the three steps stay in the graph, where the release leaves it through numpy. The critic (``v_*``)
        and ``sigma`` train the actor and leave the map alone: they hold their weights and are never computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Sequential(nn.Conv2d(3, 48, 3, stride=2, bias=False), nn.BatchNorm2d(48))
        self.down1 = _group(DOWN1)
        self.down2 = _group(DOWN2)
        self.down3 = _group(DOWN3)
        self.down4 = _group(DOWN4)
        self.p_up1, self.p_merge1 = _up(272, 112), _merge(112)
        self.p_up2, self.p_merge2 = _up(112, 56), _merge(56)
        self.p_up3, self.p_merge3 = _up(56, 32), _merge(32)
        self.p_up4, self.p_merge4 = _up(32, 48), _merge(48)
        self.p_mask_out = _mask_out()
        self.mu = _action_head(nn.Softsign())
        self.sigma = _action_head(nn.Softplus())
        self.v_up1, self.v_merge1 = _up(272, 112), _merge(112)
        self.v_up2, self.v_merge2 = _up(112, 56), _merge(56)
        self.v_up3, self.v_merge3 = _up(56, 32), _merge(32)
        self.v_up4, self.v_merge4 = _up(32, 48), _merge(48)
        self.v_mask_out = _mask_out()
        self.v_head = _value_head()

    def forward(self, image: Tensor) -> Tensor:
        """Return the published map; a pixel that a step clips has no gradient through that step.

        Raises:
            ValueError: if a side is no multiple of 32.
        """
        return _clip(self._last_sum(image, _clip))

    def running_sum(self, image: Tensor) -> Tensor:
        """Return the map after the last step, not clipped: ``(N, 1, H, W)`` in [-0.5, 1.5], for attacks.

        Clipped to [0, 1] it is ``forward`` exactly, so ``running_sum > t`` is ``forward > t`` for t in [0, 1).

        Raises:
            ValueError: if a side is no multiple of 32.
        Differs: the steps before the last are clipped, but their gradient passes as if they were not
            (straight-through), and the last is not clipped at all. An attack that drives the map to 0 would
            otherwise lose its gradient as it succeeds.
        """
        return self._last_sum(image, _clip_straight_through)

    def _last_sum(self, image: Tensor, clip: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the map after all steps; each starts from the clipped map of the step before, the last is not clipped."""
        decoded = self._image_flow(image)
        total = image.new_zeros(len(image), 1, *image.shape[-2:])
        for _ in range(STEPS):
            mask = clip(total)
            total = mask + RATE * self.mu(torch.cat([decoded, self.p_mask_out(mask)], dim=1))
        return total

    def _image_flow(self, image: Tensor) -> Tensor:
        """Compute the features that do not depend on the mask: ``(N, 48, H / 2, W / 2)``."""
        _require_legal(image)
        stem = self.conv_stem(F.pad(image, 2 * STEM_PAD))
        down1 = self.down1(stem)
        down2 = self.down2(down1)
        down3 = self.down3(down2)
        decoded: Tensor = self.down4(down3)
        decoded = self.p_merge1(torch.cat([self.p_up1(decoded), down3], dim=1))
        decoded = self.p_merge2(torch.cat([self.p_up2(decoded), down2], dim=1))
        decoded = self.p_merge3(torch.cat([self.p_up3(decoded), down1], dim=1))
        return self.p_merge4(torch.cat([self.p_up4(decoded), stem], dim=1))  # type: ignore[no-any-return]


class InvertedBottleneck(nn.Module):
    """EfficientNet's inverted bottleneck: widen, filter each channel, weigh the channels, narrow.

    The underscores of the names are the checkpoint's.
    """

    def __init__(
        self, kernel: int, stride: int, expand: int, inputs: int, outputs: int, pad: tuple[int, int]
    ) -> None:
        super().__init__()
        wide, squeezed = inputs * expand, inputs // 4
        self.widens = expand > 1
        self.residual = stride == 1 and inputs == outputs
        self.pad = pad
        if self.widens:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._se_reduce = nn.Conv2d(wide, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, wide, 1)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        wide = F.silu(self._bn0(self._expand_conv(features))) if self.widens else features
        wide = F.silu(self._bn1(self._depthwise_conv(F.pad(wide, 2 * self.pad))))
        narrow: Tensor = self._bn2(self._project_conv(wide * self._gate(wide)))
        return narrow + features if self.residual else narrow

    def _gate(self, wide: Tensor) -> Tensor:
        """Weigh the channels by squeeze and excitation: one weight in (0, 1) for each channel of each image."""
        mean = wide.mean(dim=(2, 3), keepdim=True)
        return torch.sigmoid(self._se_expand(F.silu(self._se_reduce(mean))))


def _group(runs: tuple[BottleneckGroup, ...]) -> nn.Sequential:
    blocks = nn.Sequential(*(block for run in runs for block in _blocks(run)))
    return nn.Sequential(OrderedDict(blocks=blocks))


def _blocks(run: BottleneckGroup) -> list[InvertedBottleneck]:
    half = run.kernel // 2
    return [
        InvertedBottleneck(run.kernel, run.stride, run.expand, run.inputs, run.outputs, run.pad),
        *(
            InvertedBottleneck(run.kernel, 1, run.expand, run.outputs, run.outputs, (half, half))
            for _ in range(run.blocks - 1)
        ),
    ]


def _norm(channels: int) -> nn.BatchNorm2d:
    """Make the encoder's batch norm; stem, decoders and heads have PyTorch's own ``eps`` of 1e-5."""
    return nn.BatchNorm2d(channels, eps=1e-3)


def _up(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Upsample(scale_factor=2), *_convolved(inputs, outputs))


def _merge(channels: int) -> nn.Sequential:
    return nn.Sequential(*_convolved(2 * channels, channels), *_convolved(channels, channels))


def _mask_out() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 48, 1, bias=False),
        nn.BatchNorm2d(48),
        nn.ReLU(inplace=True),
        *_convolved(48, 48),
        *_convolved(48, 48, stride=2),
    )


def _action_head(squash: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        *_convolved(96, 48),
        nn.Upsample(scale_factor=2),
        *_convolved(48, 48),
        nn.Conv2d(48, 1, 3, padding=1),
        squash,
    )


def _value_head() -> nn.Sequential:
    return nn.Sequential(
        *_convolved(96, 48), nn.Upsample(scale_factor=2), nn.Conv2d(48, 1, 3, padding=1), nn.Sigmoid()
    )


def _convolved(inputs: int, outputs: int, *, stride: int = 1) -> tuple[nn.Module, nn.Module, nn.Module]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _clip(mask: Tensor) -> Tensor:
    return mask.clamp(0, 1)


def _clip_straight_through(mask: Tensor) -> Tensor:
    """Return exactly the value of ``_clip``, with the gradient of the identity.

    It is exact because the difference is 0 inside [0, 1] and not rounded from -0.5 to 1.5.
    """
    return mask + (_clip(mask) - mask).detach()


def _require_legal(image: Tensor) -> None:
    height, width = image.shape[-2:]
    if height % STRIDE or width % STRIDE or not height or not width:
        raise ValueError(f"CoDE needs height and width to be multiples of {STRIDE}; found {height} x {width}")
