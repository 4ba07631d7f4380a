"""How the noise of attacks is varied in training, and made anew: a module must see through more than one attack."""

from __future__ import annotations

from enum import Enum

import numpy as np
import torch
from torch import Tensor

from afbench.defences.training.pairs import Attack, Batch
from afbench.defences.training.stage import Moment

from .settings import Settings


class _View(Enum):
    """What a step shows of an image."""

    BARE, NOISY, ATTACKED = range(3)


def vary_noise(
    batch: Batch, rng: np.random.Generator, shows_attacks: bool, *, settings: Settings, loss: str
) -> Batch:
    """Put a random view of one image in the attacked one's place; in a step that shows no attacks, an original."""
    return _show(batch, _draw_view(settings, loss, shows_attacks, rng), settings, rng)


def attack_originals(batch: Batch, attack: Attack, settings: Settings, loss: str, moment: Moment) -> Batch:
    """Attack those originals of a batch that are shown attacked, and vary the noise of each; draws follow from the moment."""
    *when, shows_attacks = moment
    # an image's own numbers: the view is drawn before the attack, the noise after it
    rngs = [np.random.default_rng([settings.seed, 5, *when, number]) for number in range(len(batch.original))]
    views = [_draw_view(settings, loss, shows_attacks, rng) for rng in rngs]
    targets = [number for number, view in enumerate(views) if view is _View.ATTACKED]
    attacked = batch.original.clone()
    if targets:  # an attack costs as much as a step: none is made to be thrown away
        seed = int(np.random.default_rng([settings.seed, 4, *when]).integers(2**62))
        draws = torch.Generator().manual_seed(seed)
        attacked[targets] = attack(batch.original[targets], batch.mask[targets], draws)
    images = []
    pairs = zip(batch.original, attacked, batch.mask, strict=True)
    for pair, view, rng in zip(pairs, views, rngs, strict=True):
        single = Batch(*(image[None].cpu() for image in pair))  # numpy draws the noise
        images.append(_show(single, view, settings, rng).attacked)
    return batch._replace(attacked=torch.cat(images).to(batch.original))


def _draw_view(settings: Settings, loss: str, shows_attacks: bool, rng: np.random.Generator) -> _View:
    """Draw a view by the shares of the settings; without attacks, those of bare and noisy originals fill the batch."""
    if loss != "find":
        return _View.ATTACKED
    unattacked = settings.originals + settings.noisy
    draw = rng.random() if shows_attacks else unattacked * rng.random()
    if draw < settings.originals:
        return _View.BARE
    return _View.NOISY if draw < unattacked else _View.ATTACKED


def _show(batch: Batch, view: _View, settings: Settings, rng: np.random.Generator) -> Batch:
    """Put the view of one image in the attacked one's place, its noise varied as ``augment`` asks."""
    if view is _View.BARE:
        batch = batch._replace(attacked=batch.original)
    elif view is _View.NOISY:
        batch = batch._replace(attacked=_add_noise(batch.original, rng))
    if "perturb" in settings.augment and not torch.equal(batch.attacked, batch.original):
        batch = batch._replace(attacked=_perturb(batch.original, batch.attacked, rng))
    return batch


def _add_noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add up to 4 levels of Gaussian or sign noise, rounded to 8 bits: a finder must see through more than one attack."""
    levels = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.5:
        levels = np.sign(levels)
    levels *= np.float32(rng.uniform(0.5, 4.0))
    return (image + torch.from_numpy(levels).round() / 255.0).clamp(0.0, 1.0)


def _perturb(original: Tensor, attacked: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary an attack's noise three times out of four: weaker, blurred by noise of its own, or on some pixels only.

    A module that only ever sees one attack of one strength learns that attack's texture; others leave noise of many
    sizes. The result is rounded to 8 bits, as what is stored.
    """
    if rng.random() < 0.25:
        return attacked
    levels = (attacked - original) * (255.0 * float(rng.uniform(0.2, 1.1)))
    if rng.random() < 0.5:
        blur = rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(rng.uniform(0.0, 1.5))
        levels = levels + torch.from_numpy(blur)
    if rng.random() < 0.5:
        keep = rng.random(levels.shape[-2:], dtype=np.float32) < rng.uniform(0.5, 1.0)
        levels = levels * torch.from_numpy(keep)
    return (original + levels.round() / 255.0).clamp(0.0, 1.0)
