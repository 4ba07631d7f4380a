"""C&W adapted to localization: trade the size of a perturbation against an objective, for fixed steps."""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from attacks.gradient import LossFn, check_image, input_gradient

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
FACTOR = 8.0
"""What a search multiplies or divides c by, until it has seen a weight too small and one large enough."""


class _Moments(NamedTuple):
    """Adam's running means of the gradient and of its square."""

    first: Tensor
    second: Tensor


def cw(
    objective: LossFn,
    image: Tensor,
    *,
    steps: Sequence[int],
    lr: float = 1e-3,
    c: float | Tensor = 1.0,
    optimizer: Literal["adam", "gd"] = "adam",
) -> Iterator[Tensor]:
    """Lower ``||xi||_2^2 + c * objective(image + xi)`` from ``xi = 0``, one snapshot for each of ``steps``.

    One trajectory serves all step counts: what it yields equals separate runs. Nothing depends on the batch:
    the square norm is summed per image, and the optimiser keeps its state per value.

    Args:
        objective: one number per image ``(N,)``; lowered. Is given images that leave [0, 1].
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        steps: numbers of gradients after which to yield, strictly increasing.
        lr: learning rate of the optimiser, in units of the [0, 1] range for Adam.
        c: weight of the objective, of all images or of each, ``(N, 1, 1, 1)``.
        optimizer: ``"adam"``, or ``"gd"`` for plain gradient descent.
    Yields:
        For each entry of ``steps``, the images clipped to [0, 1]; same shape as ``image``, not yet quantised.
    Raises:
        ValueError: at the call, if ``image`` leaves [0, 1], ``steps`` are not strictly increasing positive
            integers, or ``optimizer`` is unknown.
    Source: Carlini & Wagner 2017, arXiv 1608.04644, section V, as adapted in Eq. 4-5 of the ANSM paper; Adam:
        Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1.
    Differs: Adam by default, where Eq. 5 is plain gradient descent (``"gd"``); no change of variable; the
        search for c is ``cw_search``.
    """
    step_counts = list(steps)
    _check(step_counts, optimizer)
    return _trajectory(
        objective, check_image(image), step_counts=step_counts, lr=lr, c=c, adam=optimizer == "adam"
    )


def cw_search(
    objective: LossFn,
    image: Tensor,
    *,
    steps: int,
    rounds: int,
    score: LossFn,
    store: Callable[[Tensor], Tensor],
    lr: float = 1e-3,
    c: float = 1.0,
    optimizer: Literal["adam", "gd"] = "adam",
) -> Tensor:
    """Run ``cw`` some rounds with a weight ``c`` of each image's own, and keep the best stored image of each.

    The weight falls eightfold after a round whose stored image scores 0 and grows eightfold after one that does not, until both have
    been seen; then it halves the interval between them, on a log scale.

    Args:
        objective: as for ``cw``.
        image: as for ``cw``.
        steps: gradients of each round.
        rounds: how often, at least 1; the first is ``cw`` itself.
        score: what an image is worth to the defender, at least 0, one number per image ``(N,)``; taken without a gradient.
        store: images to what is stored of them.
        lr: as for ``cw``.
        c: weight in the first round.
        optimizer: as for ``cw``.
    Returns:
        What ``store`` made of the image with the lowest score, of equal scores that with the smallest square norm of the
        perturbation; NaN where an attack was not finite.
    Raises:
        ValueError: as ``cw``.
    Source: Carlini & Wagner 2017, arXiv 1608.04644, section V-B and VI-A: a binary search for the smallest c that succeeds.
    """
    _check([steps], optimizer)
    x = check_image(image)
    weight = torch.full((len(x), 1, 1, 1), c, dtype=x.dtype, device=x.device)
    low, high = torch.zeros_like(weight), torch.full_like(weight, torch.inf)
    best, broken = x, torch.zeros_like(x)
    best_score = best_size = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for _ in range(rounds):
        # not by cw, whose check of the image is a wait for the device
        (attacked,) = _trajectory(
            objective, x, step_counts=[steps], lr=lr, c=weight, adam=optimizer == "adam"
        )
        broken = broken + 0 * attacked
        stored = store(torch.nan_to_num(attacked))
        with torch.no_grad():
            new_score = score(stored).double()
        # axis by axis, so that a sum does not depend on the batch
        size = (stored - x).double().square().sum(3).sum(2).sum(1)
        is_better = (new_score < best_score) | ((new_score == best_score) & (size < best_size))
        best = torch.where(is_better.view(-1, 1, 1, 1), stored, best)
        best_score = torch.where(is_better, new_score, best_score)
        best_size = torch.where(is_better, size, best_size)
        has_won = (new_score <= 0).view(-1, 1, 1, 1)
        low, high = torch.where(has_won, low, weight), torch.where(has_won, weight, high)
        outside = torch.where(has_won, weight / FACTOR, weight * FACTOR)
        weight = torch.where((low > 0) & high.isfinite(), (low * high).sqrt(), outside)
    return best + broken


def _check(step_counts: list[int], optimizer: str) -> None:
    integers = all(isinstance(step, int) for step in step_counts)
    if not step_counts or not integers or any(low >= high for low, high in pairwise([0, *step_counts])):
        raise ValueError(f"steps must be strictly increasing positive integers; found {step_counts}")
    if optimizer not in ("adam", "gd"):
        raise ValueError(f"optimizer '{optimizer}' is unknown; known optimizers: adam, gd")


def _trajectory(
    objective: LossFn, image: Tensor, *, step_counts: list[int], lr: float, c: float | Tensor, adam: bool
) -> Iterator[Tensor]:
    xi = torch.zeros_like(image)
    moments = _Moments(torch.zeros_like(image), torch.zeros_like(image))
    for step in range(1, step_counts[-1] + 1):
        # The square norm's gradient is written out; only the objective goes through autograd.
        g = 2 * xi + c * input_gradient(objective, image + xi)
        if adam:
            moments = _accumulate(moments, g)
            xi = xi - lr * _adam_direction(moments, step)
        else:
            xi = xi - lr * g
        if step in step_counts:
            yield torch.clamp(image + xi, 0, 1)


def _accumulate(moments: _Moments, gradient: Tensor) -> _Moments:
    return _Moments(
        BETA1 * moments.first + (1 - BETA1) * gradient,
        BETA2 * moments.second + (1 - BETA2) * gradient.square(),
    )


def _adam_direction(moments: _Moments, step: int) -> Tensor:
    """Undo the bias of both means towards their start at zero, and divide one by the root of the other."""
    first = moments.first / (1 - BETA1**step)
    second = moments.second / (1 - BETA2**step)
    return first / (second.sqrt() + EPSILON)
