"""Defences without weights: transforms that a recipient may apply to an image before localizing.

Each maps ``(N, 3, H, W)`` in [0, 1] to the same shape and range, image by image. Where one is made of 8-bit or NumPy steps it
has no gradient; the others are differentiable. Images that an attack moved out of [0, 1] are taken, too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from afbench.images import resize as resized
from afbench.images import to_tensor

from .padding import reflect

_VALUES_AT_ONCE = 2**24


def jpeg(image: Tensor, *, quality: int) -> Tensor:
    """Save and reload each image as JPEG, 8 bits, 4:2:0 chroma; no gradient.

    Source: Dziugaite et al. 2016, arXiv 1608.00853.
    """
    levels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    reloaded = []
    for pixels in levels:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        reloaded.append(np.asarray(Image.open(stream)))
    return to_tensor(reloaded, str(image.device)).to(image.dtype)


def resize(image: Tensor, *, factor: float) -> Tensor:
    """Shrink both sides by ``factor`` in (0, 1), antialiased, and enlarge to the old size, bilinear.

    Source: the resizing of ANSM Fig. 4; there only shrunk. Differs: enlarged again, so that masks keep their size.
    """
    height, width = image.shape[-2:]
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    return resized(resized(image, small, antialias=True), (height, width))


def random_resize_pad(image: Tensor, generators: Sequence[torch.Generator], *, factor: float) -> Tensor:
    """Shrink by a random factor in [``factor``, 1), put it at a random place of a canvas of the old size, and take it back.

    Source: Xie et al. 2018, arXiv 1711.01991. Differs: the localizer would mark shifted pixels, so the image is brought
    back to its own; what stays random is the grid it was resampled on. The canvas is padded by reflection.
    """
    draws = torch.stack([torch.rand(3, generator=generator) for generator in generators]).to(image)
    scale = factor + (1 - factor) * draws[:, 0]
    shift = (1 - scale)[:, None] * (2 * draws[:, 1:] - 1)  # the centre's place, in half sides
    # affine maps ask where an output pixel comes from: the canvas from the image, then the image from the canvas
    to_canvas = _affine(1 / scale, -shift / scale[:, None])
    to_image = _affine(scale, shift)
    for theta in (to_canvas, to_image):
        grid = F.affine_grid(theta, list(image.shape), align_corners=False)
        image = F.grid_sample(image, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return image


def _affine(scale: Tensor, shift: Tensor) -> Tensor:
    """Return maps ``(N, 2, 3)`` of isotropic scales ``(N,)`` and shifts ``(N, 2)``."""
    return torch.cat([scale[:, None, None] * torch.eye(2).to(scale), shift[:, :, None]], dim=2)


def gaussian_noise(image: Tensor, generators: Sequence[torch.Generator], *, sigma: float) -> Tensor:
    """Add normal noise of standard deviation ``sigma``, in units of the [0, 1] range, and clip.

    Generators are fresh: those of one seed give one noise.

    Source: Cohen et al. 2019, arXiv 1902.02918, of one draw.
    """
    by_seed = {generator.initial_seed(): generator for generator in generators}
    draws = {seed: torch.randn(image.shape[1:], generator=generator) for seed, generator in by_seed.items()}
    noise = torch.stack(list(draws.values())).to(image)
    # an attack's draw is the same for every image: it is made, and copied to the device, once
    if len(draws) > 1:
        order = {seed: row for row, seed in enumerate(draws)}
        noise = noise[[order[generator.initial_seed()] for generator in generators]]
    return (image + sigma * noise).clamp(0, 1)


def median(image: Tensor, *, side: int) -> Tensor:
    """Take the median of each colour over ``side`` x ``side`` pixels, edges reflected; ``side`` is odd.

    Source: the median smoothing of Xu et al. 2018, arXiv 1704.01155.
    """
    edge = side // 2
    # reflection cannot reach beyond the image: what is smaller than the window repeats its edge
    border = (edge, edge, edge, edge)
    reflects = min(image.shape[-2:]) > edge
    padded = reflect(image, border) if reflects else F.pad(image, border, mode="replicate")
    # some rows at a time: all windows of a photograph at once are gigabytes
    rows = max(1, _VALUES_AT_ONCE // (image[:, :, 0].numel() * side**2))
    strips = []
    for top in range(0, image.shape[2], rows):
        windows = padded[:, :, top : top + rows + 2 * edge].unfold(2, side, 1).unfold(3, side, 1)
        strips.append(_middle(windows.flatten(4)))
    return torch.cat(strips, dim=2)


def _middle(windows: Tensor) -> Tensor:
    """Take the median of the last axis, of odd length."""
    # torch's own takes any of equal values on a GPU, so that its gradient differs from run to run
    return sorted_median(windows) if windows.is_cuda else windows.median(dim=-1).values


def sorted_median(windows: Tensor) -> Tensor:
    """Take the median of the last axis, of odd length; its gradient goes to one element, the same in every run."""
    return cast(Tensor, _SortedMedian.apply(windows))


class _SortedMedian(torch.autograd.Function):
    """The element in the middle of a stable sort."""

    @staticmethod
    def forward(ctx: Any, windows: Tensor) -> Tensor:
        values, order = windows.sort(dim=-1, stable=True)
        middle, ctx.length = windows.shape[-1] // 2, windows.shape[-1]
        ctx.save_for_backward(order[..., middle])
        return values[..., middle]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (indices,) = ctx.saved_tensors
        positions = torch.arange(ctx.length, device=indices.device)
        return cast(Tensor, grad_outputs[0][..., None] * (indices[..., None] == positions))


def bit_depth(image: Tensor, *, bits: int) -> Tensor:
    """Round every value to ``2**bits`` levels.

    Source: Xu et al. 2018, arXiv 1704.01155.
    """
    top_level = float(2**bits - 1)
    return torch.round(image.clamp(0, 1) * top_level) / top_level


def tv(image: Tensor, *, weight: float) -> Tensor:
    """Denoise each image by total variation, Chambolle's algorithm over the three colours together; no gradient.

    Source: Guo et al. 2018, arXiv 1711.00117. Differs: no random pixels are dropped first.
    """
    # it loads scipy.stats, which is a quarter of what starting `afbench generate` takes
    from skimage.restoration import denoise_tv_chambolle

    pixels = image.detach().clamp(0, 1).permute(0, 2, 3, 1).double().cpu().numpy()
    smooth = np.stack([denoise_tv_chambolle(levels, weight=weight, channel_axis=2) for levels in pixels])
    purified: Tensor = torch.from_numpy(smooth).permute(0, 3, 1, 2).to(image)
    return purified.clamp(0, 1).contiguous()
