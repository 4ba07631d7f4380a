"""The table of attacks: one added to ``ATTACKS`` is put under every property of attacks/properties.py."""

from collections.abc import Callable

import torch
from torch import Tensor

from attacks import (
    LossFn,
    PixelLossFn,
    apgd,
    bim,
    cospgd,
    cw,
    cw_search,
    fgsm,
    mifgsm,
    noise,
    pgd,
    pgn,
    segpgd,
    signs,
    square,
    uniform,
)
from attacks.lab import AttackProblem, Candidate, shape_of

NEIGHBOURS = 4
QUERIES = 20
CW_WEIGHT = 1000.0
ROUNDS = 2


def _run_pgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return pgd(loss, image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def neighbours(image: Tensor, keys: Tensor, count: int = NEIGHBOURS) -> Callable[[int], Tensor]:
    """Draw ``(count, N, 3, H, W)`` for each step, keyed by image."""
    return lambda step: torch.stack(
        [uniform(keys, shape_of(image), step * count + each) for each in range(count)]
    )


def _run_pgn(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return pgn(loss, image, noise=neighbours(image, keys), phi=phi, alpha=phi / 10, steps=steps)


def _run_cw(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    (attacked,) = cw(lambda x: -loss(x), image, steps=[steps], c=CW_WEIGHT)
    return attacked


def _run_cw_search(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return cw_search(
        lambda x: -loss(x),
        image,
        steps=steps,
        rounds=ROUNDS,
        score=lambda x: (-loss(x)).exp(),
        store=lambda x: x,
        c=CW_WEIGHT,
    )


def as_pixels(loss: LossFn) -> PixelLossFn:
    """What attacks on pixels are given for a loss of whole images.

    Of a problem's own loss that of its pixels; of any other one pixel that is always as wrong, and has its gradient.
    """
    owner = getattr(loss, "__self__", None)
    if isinstance(owner, AttackProblem):
        return owner.losses

    def one_pixel(x: Tensor) -> Tensor:
        value = loss(x)
        return (0.5 + (value - value.detach())).reshape(-1, 1, 1, 1)

    return one_pixel


def _run_segpgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return segpgd(as_pixels(loss), image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def _run_cospgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return cospgd(as_pixels(loss), image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def _run_square(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return square(
        loss,
        image,
        stripes=signs(keys, (3, 1, image.shape[3]), 0),
        draws=lambda query: uniform(keys, (5, 1, 1), query).flatten(1),
        phi=phi,
        queries=QUERIES * steps,
    )


ATTACKS = [
    Candidate(
        "fgsm", lambda loss, x, phi, keys, steps: fgsm(loss, x, phi=phi), lambda steps: 1, one_step=True
    ),
    Candidate(
        "bim",
        lambda loss, x, phi, keys, steps: bim(loss, x, phi=phi, alpha=phi / 4, steps=steps),
        lambda steps: steps,
    ),
    Candidate("pgd", _run_pgd, lambda steps: steps, random=True),
    Candidate(
        "mifgsm",
        lambda loss, x, phi, keys, steps: mifgsm(loss, x, phi=phi, alpha=phi / 10, steps=steps),
        lambda steps: steps,
    ),
    Candidate(
        "apgd",
        lambda loss, x, phi, keys, steps: apgd(loss, x, phi=phi, steps=steps),
        lambda steps: steps,
        looks=1,
    ),
    Candidate("pgn", _run_pgn, lambda steps: 2 * NEIGHBOURS * steps),
    Candidate("cw", _run_cw, lambda steps: steps, bounded=False),
    Candidate("cw_search", _run_cw_search, lambda steps: ROUNDS * steps, bounded=False, looks=ROUNDS),
    Candidate("segpgd", _run_segpgd, lambda steps: steps, random=True, weighted=True),
    Candidate("cospgd", _run_cospgd, lambda steps: steps, random=True, weighted=True),
    Candidate("square", _run_square, lambda steps: 0, queries=lambda steps: QUERIES * steps),
]


def run_noise(image: Tensor, phi: Tensor, keys: Tensor) -> Tensor:
    return noise(image, signs=signs(keys, shape_of(image), 0), phi=phi)


def linear(weights: Tensor) -> LossFn:
    """Make a loss whose gradient is ``weights`` everywhere, tiled for repeated images."""
    return lambda x: (x * weights.repeat(len(x) // len(weights), 1, 1, 1)).sum((1, 2, 3))
