"""The table of attacks: every attack that plans know is put under every property of attacks/properties.py.

One with a loss, an image, phi, alpha, steps, a start and numbers needs nothing here; others have a row in ``SPECIAL``.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

import attacks
from afbench import plans
from afbench.core import Setting
from attacks import LossFn, PixelLossFn, cw, cw_search, noise, pgn, signs, square, uniform
from attacks.lab import AttackProblem, Candidate, shape_of

NEIGHBOURS = 4
QUERIES = 20
CW_WEIGHT = 1000.0
ROUNDS = 2


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


def _run_square(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return square(
        loss,
        image,
        stripes=signs(keys, (3, 1, image.shape[3]), 0),
        draws=lambda query: uniform(keys, (5, 1, 1), query).flatten(1),
        phi=phi,
        queries=QUERIES * steps,
    )


def by_signature(name: str) -> Candidate:
    """Make the row of an attack that takes no more than what the engine's ``_by_signature`` supplies."""
    function, spec = getattr(attacks, name), plans.ATTACKS[name]
    parameters = inspect.signature(function).parameters

    def setting(steps: int) -> Setting:
        return plans.make_setting(name, "1/255", {"steps": steps} if "steps" in spec.defaults else {})

    def run(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
        # alpha depends on phi alone, so that more steps go further
        supplied = {
            "loss": loss,
            "losses": as_pixels(loss),
            "image": image,
            "phi": phi,
            "alpha": phi * (spec.defaults.get("alpha_over_phi") or 0.1),
            "steps": steps,
            "start": uniform(keys, shape_of(image), 0),
        }
        required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
        return function(**{key: value for key, value in supplied.items() if key in required})

    return Candidate(
        name,
        run,
        lambda steps: plans.naive_gradients(setting(steps)),
        one_step="steps" not in parameters,
        random="start" in parameters and parameters["start"].default is inspect.Parameter.empty,
        weighted="losses" in parameters,
        looks=plans.queries(setting(1)),
    )


SPECIAL = [
    Candidate("pgn", _run_pgn, lambda steps: 2 * NEIGHBOURS * steps),
    Candidate("cw", _run_cw, lambda steps: steps, bounded=False),
    Candidate("cw_search", _run_cw_search, lambda steps: ROUNDS * steps, bounded=False, looks=ROUNDS),
    Candidate("square", _run_square, lambda steps: 0, queries=lambda steps: QUERIES * steps),
]
UNTRIED = ("noise", "strong")
"""The control, which promises no strength, and the ensemble of the others, which has tests of its own."""
ATTACKS = [
    *SPECIAL,
    *(
        by_signature(name)
        for name in plans.BUILT_IN
        if name not in UNTRIED and name not in {row.name for row in SPECIAL}
    ),
]


def run_noise(image: Tensor, phi: Tensor, keys: Tensor) -> Tensor:
    return noise(image, signs=signs(keys, shape_of(image), 0), phi=phi)


def linear(weights: Tensor) -> LossFn:
    """Make a loss whose gradient is ``weights`` everywhere, tiled for repeated images."""
    return lambda x: (x * weights.repeat(len(x) // len(weights), 1, 1, 1)).sum((1, 2, 3))
