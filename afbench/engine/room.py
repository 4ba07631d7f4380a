"""How many images one launch takes on a GPU: measured, where nobody said."""

from __future__ import annotations

import torch

from afbench.core import Localizer
from afbench.losses import binary_cross_entropy

from .measure import require_map
from .memory import fits

SHARE = 0.8
"""Of the free memory that a launch may take: other images, and other processes, come and go."""
MOST = 256


def fitting_launch(free: int, one: int, two: int) -> int:
    """Images of a launch in ``free`` bytes, where one takes ``one`` and two take ``two``; a power of two.

    So that a little more or less of free memory does not decide the bytes that are stored.
    """
    each = max(1, two - one)
    fixed = max(0, one - each)
    number = int((SHARE * free - fixed) // each)
    return min(MOST, 1 << (number.bit_length() - 1)) if number > 1 else 1


def measured_launch(localizer: Localizer, size: tuple[int, int], device: str) -> int:
    """Take the gradient of one and of two blank images of ``size`` (height, width) on a GPU, and see what is left."""
    peaks: list[int] = []

    def probe(number: int) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        image = torch.full((number, 3, *size), 0.5, device=device, requires_grad=True)
        logits = require_map(localizer.logits(image), image, "the logits")
        loss = binary_cross_entropy(logits.float(), torch.zeros_like(logits, dtype=torch.float32))
        torch.autograd.grad(loss.sum(), image)
        peaks.append(torch.cuda.max_memory_allocated(device) - before)

    for number in (1, 1, 2):  # the first of all warms up
        if not fits(lambda number=number: probe(number)):  # type: ignore[misc]
            return 1
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    return fitting_launch(free, peaks[1], peaks[2])
