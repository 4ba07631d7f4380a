"""How the noise of attacks is varied in training, and made anew: a module must see through more than one attack."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from afbench.defences.training.pairs import Attack, Batch
from afbench.defences.training.stage import Moment

from .settings import Settings

BARE, NOISY, ATTACKED = range(3)
"""What a step shows of an image: the original, the original with random noise, or the attacked image."""


def vary_noise(
    batch: Batch, rng: np.random.Generator, shows_attacks: bool, *, settings: Settings, loss: str
) -> Batch:
    """Put a random view of each image in the attacked one's place; in a step that shows no attacks, an original."""
    views = _draw_views(settings, loss, shows_attacks, len(batch.original), rng)
    return _show(batch, views, settings, _draws_of(rng, batch.original.device))


def attack_originals(batch: Batch, attack: Attack, settings: Settings, loss: str, moment: Moment) -> Batch:
    """Attack those originals of a batch that are shown attacked, and vary the noise of each; draws follow from the moment."""
    *when, shows_attacks = moment
    rng = np.random.default_rng([settings.seed, 5, *when])
    views = _draw_views(settings, loss, shows_attacks, len(batch.original), rng)
    targets = torch.from_numpy(np.flatnonzero(views == ATTACKED)).to(batch.original.device)
    attacked = batch.original.clone()
    if len(targets):  # an attack costs as much as a step: none is made to be thrown away
        draws = _draws_of(rng, torch.device("cpu"))
        attacked[targets] = attack(batch.original[targets], batch.mask[targets], draws)
    return _show(batch._replace(attacked=attacked), views, settings, _draws_of(rng, batch.original.device))


def _draws_of(rng: np.random.Generator, device: torch.device) -> torch.Generator:
    """Return random numbers on a device that follow from those on the CPU."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**62)))


def _draw_views(
    settings: Settings, loss: str, shows_attacks: bool, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the views of a batch by the shares of the settings; without attacks, those of bare and noisy originals fill it.

    One draw falls into each of ``count`` equal parts of [0, 1), so that a batch has the shares as exactly as it can.
    """
    if loss != "find":
        return np.full(count, ATTACKED)
    draws = (rng.permutation(count) + rng.random(count)) / count
    unattacked = settings.originals + settings.noisy
    limits = np.array([settings.originals, unattacked])
    if not shows_attacks:
        limits = np.array([settings.originals / unattacked, 1.0])
    return np.searchsorted(limits, draws, side="right")


def _show(batch: Batch, views: np.ndarray, settings: Settings, draws: torch.Generator) -> Batch:
    """Put the view of each image in the attacked one's place, its noise varied as ``augment`` asks."""
    original = batch.original
    shown = torch.from_numpy(views).to(original.device).view(-1, 1, 1, 1)
    attacked = torch.where(shown == BARE, original, batch.attacked)
    if NOISY in views:
        attacked = torch.where(shown == NOISY, _add_noise(original, draws), attacked)
    if "perturb" in settings.augment:
        changed = (attacked != original).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        attacked = torch.where(changed, _perturb(original, attacked, draws), attacked)
    return batch._replace(attacked=attacked)


def _add_noise(images: Tensor, draws: torch.Generator) -> Tensor:
    """Add up to 4 levels of Gaussian or sign noise to each image, rounded to 8 bits: a finder must see through more than one attack."""
    normal = _normal(images, draws)
    levels = torch.where(_by_image(images, draws) < 0.5, normal.sign(), normal)
    levels = levels * _by_image(images, draws, 0.5, 4.0)
    return (images + levels.round() / 255.0).clamp(0.0, 1.0)


def _perturb(original: Tensor, attacked: Tensor, draws: torch.Generator) -> Tensor:
    """Vary the noise of three images out of four: weaker, blurred by noise of its own, or on some pixels only.

    A module that only ever sees one attack of one strength learns that attack's texture; others leave noise of many
    sizes. The result is rounded to 8 bits, as what is stored.
    """
    levels = (attacked - original) * _by_image(original, draws, 0.2, 1.1) * 255.0
    blur = _normal(original, draws) * _by_image(original, draws, 0.0, 1.5)
    levels = torch.where(_by_image(original, draws) < 0.5, levels + blur, levels)
    kept = torch.rand(original[:, :1].shape, generator=draws, device=original.device)
    kept_share = _by_image(original, draws, 0.5, 1.0)
    thinned = levels * (kept < kept_share)
    levels = torch.where(_by_image(original, draws) < 0.5, thinned, levels)
    varied = (original + levels.round() / 255.0).clamp(0.0, 1.0)
    return torch.where(_by_image(original, draws) < 0.25, attacked, varied)


def _normal(images: Tensor, draws: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=draws, device=images.device)


def _by_image(images: Tensor, draws: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw one number for each image, ``(N, 1, 1, 1)``, evenly between two."""
    numbers = torch.rand((len(images), 1, 1, 1), generator=draws, device=images.device)
    return low + (high - low) * numbers
