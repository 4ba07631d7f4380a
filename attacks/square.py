"""Square: random search with losses alone, the check that an attack with gradients is not fooled by their absence."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from attacks.gradient import LossFn, check_image, check_shape
from attacks.sign import ball, per_image

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of 10,000 queries: after which of them the squares shrink to half their area."""
DRAWS = 5
"""Numbers a query takes per image: where the square lies (2) and the sign of each colour (3)."""


def square(
    loss: LossFn,
    image: Tensor,
    *,
    stripes: Tensor,
    draws: Callable[[int], Tensor],
    phi: Tensor,
    queries: int,
    p_init: float = 0.8,
) -> Tensor:
    """Try random squares of ``-phi`` or ``+phi`` in each colour, and keep those that raise the loss.

    Every image is decided by its own loss, without waiting for the device. The first two queries are the image
    itself and vertical stripes.

    Args:
        loss: one number per image ``(N,)``; raised. Is never differentiated.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        stripes: ``(N, 3, 1, W)`` of -1 and +1, the sign of each column.
        draws: query number, from 2, to ``(N, 5)`` in [-1, 1).
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        queries: forward passes per image, at least 2.
        p_init: share of the image the first squares cover, in (0, 1].
    Returns:
        Same shape and range as ``image``; not yet quantised. NaN where the loss of the image is not finite.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, ``queries`` is below 2, or
            ``p_init`` is out of range.
    Source: Andriushchenko et al. 2020, arXiv 1912.00049, Algorithms 1 and 2; the schedule is that of the release.
    Differs: stripes are kept only where they raise the loss, and a square that changes nothing is not drawn
        again (which would make the number of queries depend on the image).
    """
    if queries < 2:
        raise ValueError(f"queries must be at least 2; found {queries}")
    if not 0 < p_init <= 1:
        raise ValueError(f"p_init must be in (0, 1]; found {p_init}")
    x = check_image(image)
    phi = per_image("phi", phi, x)
    allowed = ball(x, phi)
    size = x.shape[2], x.shape[3]
    with torch.no_grad():
        first = best_loss = loss(x)
        signs = check_shape("stripes", stripes, (len(x), 3, 1, size[1]), x)
        # the first candidate is the stripes, and the image itself is what they must beat
        candidate, best = torch.clamp(x + phi * signs, *allowed), x
        for query in range(1, queries):
            if query > 1:
                numbers = check_shape("draws(query)", draws(query), (len(x), DRAWS), x)
                in_square = _square_mask(numbers[:, :2], _side(query - 2, queries - 2, size, p_init), size)
                moved = torch.clamp(x + phi * _signs(numbers[:, 2:]), *allowed)
                candidate = torch.where(in_square, moved, best)
            candidate_loss = loss(candidate)
            better = candidate_loss > best_loss
            best_loss = torch.where(better, candidate_loss, best_loss)
            best = torch.where(better.view(-1, 1, 1, 1), candidate, best)
    return best + (0 * first).view(-1, 1, 1, 1).to(best)


def _side(done: int, of: int, size: tuple[int, int], p_init: float) -> int:
    """Compute the side of a square in pixels; never the whole height or width, unless that is one pixel."""
    halved = sum(10_000 * done > of * when for when in HALVINGS)
    side = round(math.sqrt(p_init / 2**halved * size[0] * size[1]))
    return max(1, min(side, size[0] - 1, size[1] - 1))


def _square_mask(numbers: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """Mark the pixels of each square: ``(N, 1, H, W)`` of bool, every position inside the image equally likely."""
    axes = []
    for axis, length in enumerate(size):
        corner_count = length - side + 1
        corner = ((numbers[:, axis] + 1) / 2 * corner_count).floor().clamp(max=corner_count - 1).view(-1, 1)
        position = torch.arange(length, device=numbers.device)
        axes.append((position >= corner) & (position < corner + side))
    return (axes[0][:, :, None] & axes[1][:, None, :])[:, None]


def _signs(numbers: Tensor) -> Tensor:
    """Turn ``(N, 3)`` in [-1, 1) into signs -1 and +1, ``(N, 3, 1, 1)``."""
    return torch.where(numbers < 0, -1.0, 1.0).to(numbers)[:, :, None, None]
