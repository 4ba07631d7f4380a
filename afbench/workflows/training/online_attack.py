"""Attacks on the weights that a training has reached, made while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from afbench.core import Localizer, Setting, UsageError
from afbench.defences.hardening.hardening_loss import Hardening, hardening_loss
from afbench.defences.training.pairs import Attack, Batch
from afbench.engine.grid import AttackBatch, attack_batch
from afbench.engine.meter import Meter
from afbench.images import quantise
from afbench.plans import make_setting, max_levels


def make_attack(name: str | None, phi: str, steps: int | None) -> Setting | None:
    """Return the setting of ``--attack``; None where the benchmark's own images are to do.

    Raises:
        UsageError: for an attack without phi, or anything out of range.
    """
    if name is None:
        return None
    setting = make_setting(name, phi, {"steps": steps} if steps is not None else {})
    if setting.phi is None:
        raise UsageError(f"attack '{name}' has no phi to train within; give fgsm, bim or pgd")
    return setting


def attack_name(setting: Setting | None) -> str:
    """Return attack and setting as configs name them, e.g. ``fgsm-3``; empty without one."""
    return f"{setting.attack}-{setting.label}" if setting else ""


def attacker(target: Localizer, setting: Setting, seed: int) -> Attack:
    """Return an attack on what a network has learned up to now."""

    def attack(image: Tensor, truth: Tensor, draws: torch.Generator) -> Tensor:
        # attacks draw by an image's name: another one in every step
        key = int(torch.randint(2**62, (), generator=draws))
        batch = AttackBatch([f"{key}-{number}" for number in range(len(image))], image, truth)
        with torch.enable_grad():  # validation turns gradients off
            (result,) = attack_batch(
                target, batch, [setting], seed=seed, batch_size=len(image), meter=Meter()
            )
        attacked = result.image.detach()
        levels = quantise(torch.nan_to_num(attacked), image, max_levels(setting.phi))
        stored = levels.permute(0, 3, 1, 2).to(image) / 255
        # a gradient that is no number is kept, for the training to stop at
        return torch.where(torch.isfinite(attacked), stored, attacked)

    return attack


def one_of(attacks: Sequence[Attack]) -> Attack:
    """Return an attack that is, each time, one of several at random."""

    def attack(image: Tensor, truth: Tensor, draws: torch.Generator) -> Tensor:
        chosen = attacks[int(torch.randint(len(attacks), (), generator=draws))]
        return chosen(image, truth, draws)

    return attack


def in_any_orientation(attack: Attack) -> Attack:
    """Return an attack on images that are mirrored and transposed at random, each time, and turned back with their noise.

    A network's filters know one orientation, so that its noise looks another way in each of the eight.
    """

    def turned(image: Tensor, truth: Tensor, draws: torch.Generator) -> Tensor:
        upside_down, mirrored, transposed = torch.randint(2, (3,), generator=draws).tolist()
        axes = [axis for axis, flipped in ((-2, upside_down), (-1, mirrored)) if flipped]

        def turn(images: Tensor) -> Tensor:
            images = images.flip(axes)
            return (images.mT if transposed else images).contiguous()

        attacked = attack(turn(image), turn(truth), draws)
        return (attacked.mT if transposed else attacked).flip(axes)

    return turned


def loss_under_attack(
    target: Localizer, settings: Hardening, attack: Setting | None, seed: int
) -> Callable[[Batch, torch.Generator], Tensor]:
    """Return the hardening loss of a batch, whose attacked images are made anew where an attack is given."""
    online_attack = None if attack is None or not settings.on_attacked else attacker(target, attack, seed)

    def loss(batch: Batch, draws: torch.Generator) -> Tensor:
        if online_attack is not None:
            batch = batch._replace(attacked=online_attack(batch.original, batch.mask, draws))
        return hardening_loss(target.logits, batch, settings)

    return loss
