"""Measure how many images one batch takes on a GPU, where the user gives no batch size."""

from __future__ import annotations

import torch

from afbench.core import Localizer
from afbench.losses import binary_cross_entropy
from afbench.safe_convolutions import safe_convolutions

from .measure import require_map
from .memory import fits

SHARE = 0.8
"""Share of the free memory that a batch may take: other images, and other processes, come and go."""
MOST_IMAGES = 256


def fitting_batch(free: int, one_image: int, two_images: int) -> int:
    """Compute how many images fit into ``free`` bytes from what one image and two images take.

    The result is a power of two, so that a little more or less free memory does not decide the bytes that are stored.
    """
    per_image = max(1, two_images - one_image)
    fixed = max(0, one_image - per_image)
    number = int((SHARE * free - fixed) // per_image)
    return min(MOST_IMAGES, 1 << (number.bit_length() - 1)) if number > 1 else 1


def probe_max_batch(localizer: Localizer, size: tuple[int, int], device: str) -> int:
    """Measure the gradient of one and of two blank images of ``size`` (height, width) on a GPU; return how many fit."""
    peaks: list[int] = []

    def probe(number: int) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        image = torch.full((number, 3, *size), 0.5, device=device, requires_grad=True)
        with safe_convolutions(localizer):
            logits = require_map(localizer.logits(image), image, "the logits")
            loss = binary_cross_entropy(logits.float(), torch.zeros_like(logits, dtype=torch.float32))
            torch.autograd.grad(loss.sum(), image)
        peaks.append(torch.cuda.max_memory_allocated(device) - allocated)

    for number in (1, 1, 2):  # the first of all warms up
        if not fits(lambda number=number: probe(number)):  # type: ignore[misc]
            return 1
    # the driver counts what torch keeps for reuse as taken
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return fitting_batch(free, peaks[1], peaks[2])
