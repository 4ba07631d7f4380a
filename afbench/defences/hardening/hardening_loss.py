"""What hardening is, and what it trains for: the task on originals and attacked images, and a gradient that attacks find small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from afbench.core import UsageError
from afbench.defences.ansm.restoration_losses import mask_loss
from afbench.defences.setting_checks import require_choice
from afbench.defences.training.pairs import Batch
from afbench.losses import binary_cross_entropy

Logits = Callable[[Tensor], Tensor]
PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Logits and mask ``(N, 1, H, W)`` to one number per image, ``(N,)``."""
TASKS = ("localize", "classify")
NONE, ADVERSARIAL, PENALTY, COMBINED = "none", "at", "gradient-penalty", "both"
METHODS = (NONE, ADVERSARIAL, PENALTY, COMBINED)


@dataclass(frozen=True)
class Hardening:
    """What is hardened, and how.

    Attributes:
        task: ``localize``, or ``classify`` (one forged/authentic answer per image).
        method: ``at`` trains on originals and attacked images; ``gradient-penalty`` on originals, with the penalty;
            ``both`` on both kinds, with the penalty on each (Zhao et al.); ``none`` on originals alone, the control.
        penalty: lambda, what the penalty is multiplied by.
        attack: what attacks the weights in training, at every step anew, in words; empty for the benchmark's own
            images, which attack the weights that training starts from.
    """

    task: str = "localize"
    method: str = COMBINED
    penalty: float = 0.1
    attack: str = ""

    @property
    def penalised(self) -> bool:
        return self.method in (PENALTY, COMBINED)

    @property
    def on_attacked(self) -> bool:
        return self.method in (ADVERSARIAL, COMBINED)


def check_hardening(settings: Hardening) -> Hardening:
    """Refuse a value that cannot be.

    Raises:
        UsageError: naming it.
    """
    require_choice(settings, "task", TASKS)
    require_choice(settings, "method", METHODS)
    if not 0 <= settings.penalty < 1e6:
        raise UsageError(f"penalty cannot be {settings.penalty}; give a number from 0")
    return settings


def gradient_norm(loss: Tensor, image: Tensor) -> Tensor:
    """Compute the L2 norm of the gradient of each image's loss at that image, ``(N,)``; may be differentiated again.

    Args:
        loss: ``(N,)``; each depends on its own image alone.
        image: ``(N, 3, H, W)``, which ``loss`` was computed from and which requires a gradient.
    Source: Zhao et al. 2018, arXiv 1803.11157.
    """
    (slope,) = torch.autograd.grad(loss.sum(), image, create_graph=True)
    norm: Tensor = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return norm


def penalised_loss(logits: Logits, image: Tensor, mask: Tensor, task: PairLoss, penalty: float) -> Tensor:
    """Compute the task's loss of each image plus ``penalty`` times the norm of its cross-entropy's input gradient: ``(N,)``.

    Differs: where the task is to localize, the cross-entropy is the mean over pixels, so that lambda
    does not depend on the image's size as a sum's would.
    """
    if not penalty:
        return task(logits(image), mask)
    with torch.enable_grad():  # validation asks for it too
        leaf = image.detach().requires_grad_()
        leaf_logits = logits(leaf)
        return task(leaf_logits, mask) + penalty * gradient_norm(
            binary_cross_entropy(leaf_logits, mask), leaf
        )


def hardening_loss(logits: Logits, batch: Batch, settings: Hardening) -> Tensor:
    """Compute the loss of each pair, ``(N,)``: of its original, or the mean of original and attacked image.

    Source: Zhao et al. 2018, arXiv 1803.11157.
    Differs: a localizer is trained on 0.3 cross-entropy + 0.7 (1 - dice) as localizers are, since with the bare
    cross-entropy of few forged pixels the cheapest robust answer is an empty mask; the penalty is of the cross-entropy,
    which attacks raise.
    """
    task = mask_loss if settings.task == "localize" else binary_cross_entropy
    penalty = settings.penalty if settings.penalised else 0.0
    images = [batch.original, batch.attacked] if settings.on_attacked else [batch.original]
    losses = [penalised_loss(logits, image, batch.mask, task, penalty) for image in images]
    return torch.stack(losses).mean(dim=0)
