"""What attacks raise or lower of a localizer, as functions of images alone."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from afbench.core import Localizer
from afbench.defences.defended_localizer import defence_of
from afbench.losses import ATTACK_LOSSES, forged_excess, pixel_cross_entropy
from afbench.plans.ensemble import LOGIT_SCALE

from .measure import require_map

ImageFn = Callable[[Tensor], Tensor]
"""Images ``(k N, 3, H, W)``, laid out as ``image.repeat(k, 1, 1, 1)`` for N masks, to numbers of each."""


def pixel_losses(localizer: Localizer, mask: Tensor) -> ImageFn:
    """Make the loss of every pixel: its cross-entropy."""

    def losses(image: Tensor) -> Tensor:
        return pixel_cross_entropy(_logits(localizer, image), _repeated(mask, image))

    return losses


def image_loss(
    localizer: Localizer, mask: Tensor, name: str, target: str = "mask", scale: Tensor | float = 1.0
) -> ImageFn:
    """Make what is raised of every image: a loss with its mask, for target ``empty`` minus that with an empty mask, for
    ``hide`` both; ``scale`` multiplies the logits."""
    measure = ATTACK_LOSSES[name]

    def loss(image: Tensor) -> Tensor:
        # a pixel is right on its side of the localizer's threshold; the paper's cross-entropy knows no threshold
        logits = _logits(localizer, image) if name == "bce" else scale * _from_threshold(localizer, image)
        truth = _repeated(mask, image)
        if target == "mask":
            return measure(logits, truth)
        towards_empty = -measure(logits, torch.zeros_like(truth))
        return towards_empty if target == "empty" else measure(logits, truth) + towards_empty

    return loss


def excess(localizer: Localizer, *, hinge: bool, objective: str, kappa: float) -> ImageFn:
    """Make what C&W lowers of every image: how far its forged pixels stand above the threshold, down to ``kappa`` below."""

    def lowered(image: Tensor) -> Tensor:
        return forged_excess(
            _logits(localizer, image),
            threshold=_threshold(localizer),
            hinge=hinge,
            objective="logit" if objective == "logit" else "probability",
            kappa=kappa,
        )

    return lowered


def logit_scale(localizer: Localizer, image: Tensor) -> Tensor:
    """Compute what brings the logits of each image, counted from the threshold, to the mean size that ``strong`` uses.

    Returns:
        ``(N, 1, 1, 1)``; 1 where all logits are at the threshold.
    """
    with torch.no_grad():
        # axis by axis, so that it does not depend on the batch
        size = _from_threshold(localizer, image).abs().mean(3, keepdim=True).mean(2, keepdim=True)
    return torch.where(size > 0, LOGIT_SCALE / size, 1.0)


def f1_left(localizer: Localizer, mask: Tensor) -> ImageFn:
    """Make the F1 of 8-bit images as they are judged; 1 where nothing is forged and nothing found.

    Behind a random defence decisions are those of the mean logits over its draws: an attack knows the distribution, not
    the draw that will judge it.
    """
    defence = defence_of(localizer)

    def score(image: Tensor) -> Tensor:
        if defence is None or defence.deterministic:
            return _f1(_decisions(localizer, image, localizer.probability(image)), _repeated(mask, image))
        return _f1(_from_threshold(localizer, image) > 0, _repeated(mask, image))

    return score


def loss_and_f1(
    localizer: Localizer, mask: Tensor, name: str, scale: Callable[[], Tensor]
) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Make the loss ``name`` and the F1 of ``f1_left`` from one pass through the network.

    None where the localizer has no such pass, or stands behind a defence: what an attack differentiates there is not always
    what judges.
    """
    single_pass = getattr(localizer, "probability_and_logits", None)
    if single_pass is None or defence_of(localizer) is not None:
        return None
    measure = ATTACK_LOSSES[name]

    def both(image: Tensor) -> tuple[Tensor, Tensor]:
        probability, logits = single_pass(image)
        truth = _repeated(mask, image)
        with torch.no_grad():
            left = _f1(_decisions(localizer, image, probability), truth)
        logits = _counted_from_threshold(localizer, require_map(logits, image, "the logits"))
        return measure(scale() * logits, truth), left

    return both


def _decisions(localizer: Localizer, image: Tensor, probability: Tensor) -> Tensor:
    return require_map(probability, image, "the probability").float() > localizer.threshold


def _f1(decisions: Tensor, mask: Tensor) -> Tensor:
    forged = mask > 0
    hits = (decisions & forged).sum(dim=(1, 2, 3))
    pixels = decisions.sum(dim=(1, 2, 3)) + forged.sum(dim=(1, 2, 3))
    return torch.where(pixels > 0, 2 * hits.double() / pixels.clamp(min=1), 1.0)


def _logits(localizer: Localizer, image: Tensor) -> Tensor:
    return require_map(localizer.logits(image), image, "the logits")


def _from_threshold(localizer: Localizer, image: Tensor) -> Tensor:
    """Compute logits in at least float32 whose sign is the decision."""
    return _counted_from_threshold(localizer, _logits(localizer, image))


def _counted_from_threshold(localizer: Localizer, logits: Tensor) -> Tensor:
    threshold = _threshold(localizer)
    return logits.to(torch.promote_types(logits.dtype, torch.float32)) - math.log(threshold / (1 - threshold))


def _threshold(localizer: Localizer) -> float:
    return float(getattr(localizer, "logit_threshold", localizer.threshold))


def _repeated(mask: Tensor, image: Tensor) -> Tensor:
    return mask.repeat(len(image) // len(mask), 1, 1, 1)
