"""Cut large images into overlapping tiles and merge their outputs, like IF-OSN's release.

Source: Wu, Zhou, Tian and Liu, "Robust Image Forgery Detection over Online Social Network Shared Images",
CVPR 2022, and the test code released with it.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

SIZE = 896
"""The published side of a tile; the next tile starts half a side further on."""

Network = Callable[[Tensor], Tensor]
"""Images ``(N, 3, h, w)`` to logits ``(N, 1, h, w)``."""


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    def crop(self, image: Tensor) -> Tensor:
        """Return the box's part of ``(..., H, W)`` as a view."""
        return image[..., self.top : self.bottom, self.left : self.right]


def tile_boxes(height: int, width: int, size: int = SIZE) -> list[Box]:
    """List the tiles of an image in the order they are merged: row by row, the last column and row flush with the end.

    All tiles are ``min(size, height)`` by ``min(size, width)``, and every pixel is in one. A flush tile that repeats
    another is listed again, as published: merging it twice changes the weights.
    """
    tops, last_top = _starts(height, size), max(height - size, 0)
    lefts, last_left = _starts(width, size), max(width - size, 0)
    return [
        Box(top, left, min(top + size, height), min(left + size, width))
        for top in (*tops, last_top)
        for left in (*lefts, last_left)
    ]


def _starts(side: int, size: int) -> range:
    """Return the starts of the tiles that fit before the flush one; none on a side shorter than a tile."""
    return range(0, side - size + 1, size // 2)


def centre_weight(height: int, width: int, size: int = SIZE) -> Tensor:
    """Return the share of the merged map that stays under a new tile: ``(height, width)``, float64 on the CPU.

    It is 0 at the tile's centre and 1 in the outer sixth of each side. A tile that is shorter than ``size`` on a side
    has the full tile's map, resized.
    """
    peak = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    peak[..., 1, 1] = 1.0
    weight = 1.0 - _resized(peak, size, size)
    if (height, width) != (size, size):
        weight = _resized(weight, height, width)
    return weight[0, 0]


def _resized(grid: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)


def merge_tiles(tiles: Sequence[Tensor], boxes: Sequence[Box], height: int, width: int) -> Tensor:
    """Merge tiles in order; a newer tile counts most at its centre, the older ones at its border.

    Args:
        tiles: ``(N, 1, h, w)`` floating, one for each box and of its size; differentiable.
        boxes: as ``tile_boxes`` lists them.
        height: height of the whole image.
        width: width of the whole image.
    Returns:
        ``(N, 1, height, width)`` in the tiles' dtype.
    Raises:
        ValueError: if there are more tiles than boxes, or fewer.
    """
    first = tiles[0]
    tile_height, tile_width = first.shape[-2:]
    # A tile is cut short on one side at most where tiles overlap, so its longer side is the size of all.
    weight = centre_weight(tile_height, tile_width, max(tile_height, tile_width)).to(first)
    canvas = first.new_zeros(*first.shape[:-2], height, width)
    is_merged = torch.zeros(height, width, dtype=torch.bool, device=first.device)
    for tile, box in zip(tiles, boxes, strict=True):
        keep = torch.where(box.crop(is_merged), weight, 0.0)
        canvas = _with_patch(canvas, keep * box.crop(canvas) + (1 - keep) * tile, box)
        box.crop(is_merged).fill_(True)
    return canvas


def _with_patch(canvas: Tensor, patch: Tensor, box: Box) -> Tensor:
    """Return a copy of the canvas with one box replaced; autograd still needs the canvas itself."""
    rows = canvas[..., box.top : box.bottom, :].slice_scatter(patch, dim=-1, start=box.left, end=box.right)
    return canvas.slice_scatter(rows, dim=-2, start=box.top, end=box.bottom)


def tile_logits(network: Network, image: Tensor, size: int = SIZE) -> list[Tensor]:
    """Return the network's logits for each tile of an image, in order, with the memory of one tile.

    With gradients, each of several tiles is computed again for its gradient, which is how the memory stays that of one.
    A box that is listed twice is computed once. An image below ``size`` on both sides is its only tile.
    """
    boxes = tile_boxes(image.shape[-2], image.shape[-1], size)
    if len(boxes) > 1 and torch.is_grad_enabled():
        logits = {
            # checkpointing keeps one tile's activations at a time and computes them again for the gradient
            box: checkpoint(network, box.crop(image), use_reentrant=False)
            for box in dict.fromkeys(boxes)
        }
    else:
        logits = {box: network(box.crop(image)) for box in dict.fromkeys(boxes)}
    return [logits[box] for box in boxes]


def merged_logits(tiles: Sequence[Tensor], height: int, width: int, size: int = SIZE) -> Tensor:
    """Merge what ``tile_logits`` gave into ``(N, 1, height, width)``, for attacks.

    Differs: the release merges 8-bit probabilities, which have no gradient; here the logits are merged with the
        same weights.
    """
    if len(tiles) == 1:
        return tiles[0]
    return merge_tiles(tiles, tile_boxes(height, width, size), height, width)


def merged_probability(tiles: Sequence[Tensor], height: int, width: int, size: int = SIZE) -> Tensor:
    """Merge what ``tile_logits`` gave into probabilities ``(N, 1, height, width)`` as published, for scoring.

    A tile's probabilities are rounded to 255 levels, half to even, merged in float64 and truncated to a level
    again, so a value above 0.5 is a level above 127, the release's threshold. Merged tiles have no gradient.

    Differs: a single tile's probability stays unrounded: up to half a level away, and on the same side of the
        threshold (a level above 127 is then a probability of at least 0.5). The release's weights may differ
        in the last digits, so a value that is a whole level before truncation may be one level off.
    """
    if len(tiles) == 1:
        return torch.sigmoid(tiles[0])
    with torch.no_grad():
        levels = [_levels(tile) for tile in tiles]
        merged = merge_tiles(levels, tile_boxes(height, width, size), height, width)
        return (merged.floor() / 255).to(tiles[0].dtype)


def _levels(logits: Tensor) -> Tensor:
    """Round to whole levels from 0 to 255, in float64 for the merging."""
    return (torch.sigmoid(logits.double()) * 255).round()
