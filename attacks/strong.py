"""The worst of several attacks for each image, chosen among images as they will be stored."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from attacks.apgd import best_point
from attacks.gradient import LossFn, check_image, check_steps, input_gradient
from attacks.sign import ball, per_image, started, stepped

LossAndScoreFn = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``(N, 3, H, W)`` to a loss and a score, one number per image ``(N,)`` each."""


class EnsembleMember(NamedTuple):
    """One run of ``apgd``: the loss it raises, and its start in units of ``phi``, ``(N, 3, H, W)`` in [-1, 1), or the
    image itself."""

    loss: LossFn
    start: Tensor | None = None


class Worst(NamedTuple):
    """The image with the lowest score, that score, and which member made it: 0 is the original, the last is the pass on
    the 8-bit grid."""

    image: Tensor
    score: Tensor
    member: Tensor


def strong(
    members: Sequence[EnsembleMember],
    image: Tensor,
    *,
    score: LossFn,
    store: Callable[[Tensor], Tensor],
    phi: Tensor,
    steps: int,
    loss_and_score: LossAndScoreFn | None = None,
    lowest: float = -math.inf,
) -> Worst:
    """Run ``apgd`` for each member, then signed steps of whole levels from the worst, and keep what scores lowest.

    Scores are those of images on the 8-bit grid, so that rounding gives nothing back unseen: the last pass begins at the
    worst stored image, raises the loss of the first member by a level a step, and sees every image it passes.

    It ends after the member that brings the last image of the batch to the ``lowest`` score, which nothing can lower. Images
    that have it stay in the batch until then, since a smaller batch would compute other bits of the rest. To learn whether it
    may end, it waits for the device once after each member, and nowhere else.

    Args:
        members: at least one; of equal scores the first is kept, and the original only where all score higher.
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
        score: what an image is worth to the defender, one number per image ``(N,)``; taken without a gradient.
        store: images to what is stored of them, within ``phi`` of the original.
        phi: ``(N, 1, 1, 1)``, L-inf radius in units of the [0, 1] range.
        steps: gradients of each member and of the last pass, at least 1.
        loss_and_score: the loss of the first member and the score from one pass, which the pass on the grid then saves;
            must equal what the two give.
        lowest: a bound of ``score`` from below, such as 0 for F1.
    Returns:
        What ``store`` made of the worst images, their scores and members ``(N,)``; NaN where a loss or gradient was
        not finite while the score of the image could still fall.
    Raises:
        ValueError: if ``image`` leaves [0, 1], a tensor has the wrong shape, or ``steps`` is below 1.
    Source: the worst case per image over losses: Croce et al. 2024 (SEA), arXiv 2306.12941, section 3.
    """
    check_steps(steps)
    x = check_image(image)
    phi = per_image("phi", phi, x)
    allowed = ball(x, phi)
    first_score = _score_of(score, x)
    worst = Worst(x, first_score, torch.zeros_like(first_score, dtype=torch.int64))
    broken, can_fall = torch.zeros_like(x), torch.ones_like(first_score, dtype=torch.bool)
    for number, member in enumerate(members, start=1):
        start = x if member.start is None else started(x, member.start, phi, allowed)
        attacked = best_point(member.loss, start, allowed=allowed, phi=phi, steps=steps)
        broken = _noted(broken, attacked, can_fall)
        stored = store(torch.nan_to_num(attacked))
        worst = _lower(worst, stored, _score_of(score, stored), number)
        can_fall = ~(worst.score <= lowest)
        if not any_of(can_fall):
            return worst._replace(image=worst.image + broken)
    level = torch.full_like(phi, 1 / 255)
    stored, gradient = worst.image, input_gradient(members[0].loss, worst.image)
    for step in range(1, steps + 1):
        moved = stepped(stored, gradient, level, allowed)
        broken = _noted(broken, moved, can_fall)
        stored = store(torch.nan_to_num(moved))
        if step < steps:
            gradient, new_score = _gradient_and_score(members[0].loss, score, loss_and_score, stored)
        else:
            new_score = _score_of(score, stored)
        worst = _lower(worst, stored, new_score, len(members) + 1)
    return worst._replace(image=worst.image + broken)


def _gradient_and_score(
    loss: LossFn, score: LossFn, loss_and_score: LossAndScoreFn | None, image: Tensor
) -> tuple[Tensor, Tensor]:
    """Take both at an image, from one pass where there is a function for that."""
    if loss_and_score is None:
        return input_gradient(loss, image), _score_of(score, image)
    scores = []

    def raised(leaf: Tensor) -> Tensor:
        values, new_score = loss_and_score(leaf)
        scores.append(new_score.detach())
        return values

    return input_gradient(raised, image), scores[0]


def _score_of(score: LossFn, image: Tensor) -> Tensor:
    with torch.no_grad():
        return score(image)


def any_of(rows: Tensor) -> bool:
    """Ask whether any is true: the one question for which the attack waits for the device."""
    return bool(rows.any())


def _noted(broken: Tensor, attacked: Tensor, can_fall: Tensor) -> Tensor:
    """Add NaN where an attacked image is not finite, but for images whose score can't fall: alone they would have ended."""
    return torch.where(can_fall.view(-1, 1, 1, 1), broken + 0 * attacked, broken)


def _lower(worst: Worst, stored: Tensor, new_score: Tensor, number: int) -> Worst:
    """Take the images of member ``number`` that score lower than the worst so far."""
    # the first stands against the original, which an attack leaves even where that gains nothing
    lower = new_score <= worst.score if number == 1 else new_score < worst.score
    return Worst(
        torch.where(lower.view(-1, 1, 1, 1), stored, worst.image),
        torch.where(lower, new_score, worst.score),
        torch.where(lower, number, worst.member),
    )
