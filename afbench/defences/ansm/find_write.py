"""The module in two parts: a finder that looks for the forgery by itself, and a writer that makes it visible.

A module restores as well as it finds the forgery in an attacked image: writing a mask that it is given is learned in a
minute and carries over to attacks it never saw. So the finder is a forensic network of its own, not derived from the
localizer it defends, and the writer sees nothing of it but a hard mask.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.defences.padding import pad
from afbench.localizers.nets.reference_net import WIDTHS, ReferenceNet, srm_kernels

from .small import SRM_LEVELS, conv_block

MULTIPLE = 4
"""The writer's coarsest map has a quarter of the side."""
_WRITER = (16, 24, 32)
"""Channels of the writer at full, half and quarter size."""
_NOISE_SIDE = 64
_NOISE_LEVELS = 2.0
"""Standard deviation of the noise that the finder's copies get: of 0, 2 and 3 levels, 2 kept most on 64 forgeries that are in no table."""


class FinderOutput(NamedTuple):
    """What the finder says of images: the logit of each pixel to be forged, and of each image to be attacked."""

    forged: Tensor
    attacked: Tensor


class FindWrite(nn.Module):
    """Anti-noise from an image: ``TRUNC(X + S(X))``, where S writes the mask that the finder sees.

    An image that seems not to be attacked, or in which nothing is found, is left as it is.

    Source: the ANSM paper, Eq. 8, for the sum; the two parts are ours.
    Differs: S is bounded by ``bound`` instead of 1.
    """

    noise: Tensor

    def __init__(self, bound: float, *, turned: bool = False) -> None:
        """Build an untrained module.

        Args:
            bound: largest noise it may add, in units of the [0, 1] range.
            turned: look for the forgery in two turned and noisy copies instead of the image itself.
        """
        super().__init__()
        self.bound, self.turned = bound, turned
        self.finder = Finder()
        self.writer = Writer()
        draws = np.random.default_rng(0).standard_normal((3, _NOISE_SIDE, _NOISE_SIDE), dtype=np.float32)
        self.register_buffer("noise", torch.from_numpy(draws) * (_NOISE_LEVELS / 255), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Purify ``(N, 3, H, W)`` in [0, 1], any H and W; shape and range stay.

        Backward, both decisions count as the probabilities they come from, so that an attack can look through them.
        """
        maps = self.finder.network.skips(image)
        act = _decide(torch.sigmoid(self.finder.attack_logit(maps)))
        if torch.is_grad_enabled():
            return self._write(image, maps, act)
        # most images of a user are not attacked: nothing more is computed of those
        purified, attacked = image.clone(), act > 0
        if attacked.any():
            attacked_maps = [features[attacked] for features in maps]
            purified[attacked] = self._write(image[attacked], attacked_maps, act[attacked])
        return purified

    def _write(self, image: Tensor, maps: list[Tensor], act: Tensor) -> Tensor:
        mask = _decide(self._find_turned(image) if self.turned else self._find(image, maps))
        act = act.view(-1, 1, 1, 1) * mask.amax(dim=(1, 2, 3), keepdim=True)
        purified: Tensor = image + act * self.bound * self.writer(image, mask)
        return purified.clamp(0.0, 1.0)

    def find(self, image: Tensor) -> Tensor:
        """Return the probability ``(N, 1, H, W)`` of each pixel to be forged, as the finder sees an attacked image."""
        if self.turned:
            return self._find_turned(image)
        return self._find(image, self.finder.network.skips(image))

    def _find(self, image: Tensor, maps: list[Tensor]) -> Tensor:
        return torch.sigmoid(self.finder.network.decode(maps, *image.shape[-2:]))

    def _find_turned(self, image: Tensor) -> Tensor:
        """Look at two copies: turned by half, and mirrored along the other diagonal, with the same little noise on both.

        An attack is made for one orientation of one network's filters, and for their place on the image's grid. A finder
        that was trained on stored attacked images, turned with their noise, sees more in copies; one that saw attacks
        made anew after the turning knows them as they are, and sees less. The noise is the same in every image.
        """
        height, width = image.shape[-2:]
        repeats = -(-height // _NOISE_SIDE), -(-width // _NOISE_SIDE)
        noisy = image + self.noise.to(image.dtype).repeat(1, *repeats)[:, :height, :width]
        by_half = noisy.flip(-2, -1)
        first = torch.sigmoid(self.finder(by_half.contiguous()).forged)
        second = torch.sigmoid(self.finder(by_half.mT.contiguous()).forged)
        return ((first + second.mT) / 2).flip(-2, -1)


class Finder(nn.Module):
    """A network of the embedded localizer's shape with weights of its own, and an answer for the whole image."""

    def __init__(self) -> None:
        super().__init__()
        self.network = ReferenceNet()
        self.attacked = nn.Linear(2 * WIDTHS[-1], 1)

    def forward(self, image: Tensor) -> FinderOutput:
        """Turn ``(N, 3, H, W)`` in [0, 1] into logits ``(N, 1, H, W)`` and ``(N,)``."""
        maps = self.network.skips(image)
        return FinderOutput(self.network.decode(maps, *image.shape[-2:]), self.attack_logit(maps))

    def attack_logit(self, maps: list[Tensor]) -> Tensor:
        """Turn the encoder's maps into the logit of each image to be attacked, ``(N,)``."""
        deepest = maps[-1]
        spread = (deepest.var(dim=(2, 3), correction=0) + 1e-6).sqrt()
        logit: Tensor = self.attacked(torch.cat([deepest.mean(dim=(2, 3)), spread], 1)).flatten()
        return logit


class Writer(nn.Module):
    """Noise that makes the localizer see a given mask, from the mask, forensic residuals and colours."""

    fixed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("fixed", srm_kernels(), persistent=False)
        inputs = len(self.fixed) + 4
        full, half, quarter = _WRITER
        self.at_half = conv_block(4 * inputs, half)
        self.at_quarter = nn.Sequential(conv_block(4 * half, quarter), conv_block(quarter, quarter))
        self.up = nn.Conv2d(quarter, half, 1, bias=False)
        self.fuse = conv_block(half, half)
        self.last = nn.Conv2d(half, full, 1, bias=False)
        self.at_full = conv_block(inputs + full, full)
        self.head = nn.Conv2d(full, 3, 3, padding=1)
        nn.init.zeros_(self.head.weight)  # training starts from an image that is left alone
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Return noise in (-1, 1) ``(N, 3, H, W)`` for images in [0, 1] and masks ``(N, 1, H, W)`` of 0 and 1."""
        height, width = image.shape[-2:]
        image, mask = pad(image, MULTIPLE), pad(mask, MULTIPLE)
        with torch.autocast(image.device.type, enabled=False):  # half precision cannot hold 255 levels
            residual = F.conv2d(F.pad(255.0 * image, (2, 2, 2, 2), mode="replicate"), self.fixed)
            inputs = torch.cat(
                [residual / (1.0 + residual.abs() / SRM_LEVELS), 2.0 * image - 1.0, 2.0 * mask - 1.0], 1
            )
        half = self.at_half(F.pixel_unshuffle(inputs, 2))
        quarter = self.at_quarter(F.pixel_unshuffle(half, 2))
        half = self.fuse(half + F.interpolate(self.up(quarter), scale_factor=2.0, mode="bilinear"))
        full = F.interpolate(self.last(half), scale_factor=2.0, mode="bilinear")
        noise: Tensor = torch.tanh(self.head(self.at_full(torch.cat([inputs, full], 1))))
        return noise[..., :height, :width]


class _Decision(torch.autograd.Function):
    """Forward 1 where a probability is above one half, else 0; backward the identity."""

    @staticmethod
    def forward(ctx: Any, probability: Tensor) -> Tensor:
        return (probability > 0.5).to(probability.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


def _decide(probability: Tensor) -> Tensor:
    decision: Tensor = _Decision.apply(probability)
    return decision
