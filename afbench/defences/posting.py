"""What a site does to an image that a forger publishes: it shrinks, blurs and compresses. Every step gives 8-bit images.

A step stands before a localizer as a defence does, so attacks go through it in the same way: rounding and compression count as the
identity in the backward pass (BPDA), and an attack averages over qualities around the stated one (EOT), since a forger does not
know the quality for sure.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from afbench.images import resize, to_tensor

from .post_names import CHAIN, CHAINS, POST, read_step, step_text
from .purifier import Param, Purifier, straight_through
from .transforms import jpeg

QUALITY_OFFSETS = (-10, -5, 0, 5, 10)
"""Qualities, as differences from the stated one, that an attack averages over."""
SOCIAL_SIDE, SOCIAL_QUALITY = 2048, 85


def load_step(text: str) -> Purifier:
    """Return a step of posting, read as ``read_step`` does, as what stands before a localizer.

    Raises:
        UsageError: if it is unknown, or its setting out of range.
    """
    name, value = read_step(text)
    label = POST + step_text(text).replace(":", "-")
    if name == CHAIN:
        recipe: dict[str, Param] = {"chain": str(value), "recipe": CHAINS[str(value)]}
        return _compressed(name, label, recipe, partial(_social, quality=SOCIAL_QUALITY), SOCIAL_QUALITY)
    number = float(value)
    if name in ("jpeg", "webp"):
        save = _jpeg if name == "jpeg" else _webp
        return _compressed(name, label, {"quality": int(number)}, save, int(number))
    transform = partial(shrink, factor=number) if name == "resize" else partial(blur, sigma=number)
    params: dict[str, Param] = {"factor" if name == "resize" else "sigma": number}
    return Purifier(name=POST + name, label=label, params=params, apply=transform, gradient="surrogate")


def _compressed(
    name: str, label: str, params: dict[str, Param], save: Callable[..., Tensor], quality: int
) -> Purifier:
    def draw(image: Tensor, number: int) -> Tensor:
        return save(image, quality=min(max(quality + QUALITY_OFFSETS[number], 1), 100))

    return Purifier(
        name=POST + name,
        label=label,
        params=params,
        apply=partial(save, quality=quality),
        gradient="bpda",
        draw=draw,
        draws=len(QUALITY_OFFSETS),
    )


def shrink(image: Tensor, *, factor: float) -> Tensor:
    """Shrink both sides of ``(N, 3, H, W)`` by ``factor`` in (0, 1], antialiased bilinear, and round to 8 bits."""
    height, width = image.shape[-2:]
    size = max(1, round(height * factor)), max(1, round(width * factor))
    return _rounded(resize(image, size, antialias=True))


def blur(image: Tensor, *, sigma: float) -> Tensor:
    """Blur by a Gaussian of ``sigma`` pixels, cut at four sigma, edges repeated, and round to 8 bits."""
    reach = max(1, round(4 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    rows = F.conv2d(padded, weights, groups=3)
    return _rounded(F.conv2d(rows, weights.transpose(2, 3), groups=3))


def _jpeg(image: Tensor, *, quality: int) -> Tensor:
    return straight_through(image, jpeg(image.detach(), quality=quality))


def _webp(image: Tensor, *, quality: int) -> Tensor:
    levels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    reloaded = []
    for pixels in levels:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "WEBP", quality=quality)
        reloaded.append(np.asarray(Image.open(stream)))
    return straight_through(image, to_tensor(reloaded, str(image.device)).to(image.dtype))


def _social(image: Tensor, *, quality: int) -> Tensor:
    longest = max(image.shape[-2:])
    small = shrink(image, factor=SOCIAL_SIDE / longest) if longest > SOCIAL_SIDE else image
    return _jpeg(small, quality=quality)


def _rounded(image: Tensor) -> Tensor:
    return straight_through(image, (image.detach().clamp(0, 1) * 255).round() / 255)
