"""Continue images by reflection to the sides that a network or a crop needs."""

from __future__ import annotations

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
        image = F.pad(image, step, mode="reflect")
    return image
