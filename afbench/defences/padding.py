"""Continue images by reflection to the sides that a network or a crop needs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pad(image: Tensor, multiple: int) -> Tensor:
    """Continue an image ``(N, C, H, W)`` at its right and bottom by reflection, to sides that are a multiple."""
    height, width = image.shape[-2:]
    return pad_to(image, height + -height % multiple, width + -width % multiple)


def pad_to(image: Tensor, height: int, width: int) -> Tensor:
    """Continue an image at its right and bottom by reflection, as often as it takes; a side of one pixel is repeated."""
    while image.shape[-2:] != (height, width):
        down, right = height - image.shape[-2], width - image.shape[-1]
        if (down and image.shape[-2] == 1) or (right and image.shape[-1] == 1):
            return F.pad(image, (0, right, 0, down), mode="replicate")
        # a reflection adds at most one less than a side
        step = (0, min(right, image.shape[-1] - 1), 0, min(down, image.shape[-2] - 1))
        image = reflect(image, step)
    return image


def reflect(image: Tensor, border: tuple[int, int, int, int]) -> Tensor:
    """Continue an image by reflection, by a border (left, right, top, bottom) below its sides."""
    if not image.is_cuda:
        return F.pad(image, border, mode="reflect")
    # torch's own gradient of this differs from run to run on a GPU
    return mirrored(mirrored(image, 3, *border[:2]), 2, *border[2:])


def mirrored(image: Tensor, axis: int, first: int, last: int) -> Tensor:
    """Continue one axis by reflection, from slices, whose gradients repeat."""
    size = image.shape[axis]
    start, end = image.narrow(axis, 1, first), image.narrow(axis, size - 1 - last, last)
    return torch.cat([start.flip(axis), image, end.flip(axis)], axis)
