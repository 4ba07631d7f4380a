"""Which images a step sees and how they are cut: a pure function of settings, stage, epoch and image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from afbench.core import UsageError
from afbench.images import resize

from .module import pad_to
from .settings import ANTIALIASED, CROP, Settings

SMALLER_SHARE = 0.75
"""Of a finder's steps, the first ones, have the smaller crops."""
GRID = 8
"""Crops start at multiples of this many pixels."""


class Pairs(Protocol):
    """What training needs of a dataset: pairs of an original and an attacked image, and what belongs together.

    An item has ``original`` and ``adversarial`` ``(3, H, W)`` in [0, 1], and ``mask`` ``(1, H, W)`` of 0 and 1.
    """

    @property
    def groups(self) -> Sequence[str]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...


class Batch(NamedTuple):
    """``original`` and ``attacked`` ``(N, 3, S, S)`` in [0, 1], and the true mask ``(N, 1, S, S)``."""

    original: Tensor
    attacked: Tensor
    mask: Tensor


Attack = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Originals ``(N, 3, H, W)``, truth ``(N, 1, H, W)`` and random numbers to attacked images of 8 bits."""


class Parts(NamedTuple):
    """Indices of the images that are trained on, and of those that are not."""

    train: list[int]
    validation: list[int]


class Share(NamedTuple):
    """Which of several processes this is; each takes its share of every batch."""

    rank: int = 0
    of: int = 1


def split_by_group(groups: Sequence[str], share: float, seed: int) -> Parts:
    """Put whole groups aside, in a random order, until they hold about ``share`` of the images.

    A group that alone would be far more than that is trained on, while there are others.

    Raises:
        UsageError: if there are too few groups for that.
    """
    sizes = Counter(groups)
    order = [str(name) for name in np.random.default_rng([seed, 1]).permutation(sorted(sizes))]
    target_size = share * len(groups)
    aside: set[str] = set()
    for name in sorted(
        order, key=lambda name: sizes[name] > 1.5 * target_size
    ):  # stable: the random order otherwise
        if sum(sizes[group] for group in aside) >= target_size:
            break
        aside.add(name)
    parts = Parts(
        [index for index, group in enumerate(groups) if group not in aside],
        [index for index, group in enumerate(groups) if group in aside],
    )
    if not parts.train:
        raise UsageError(
            f"a validation share of {share} leaves nothing to train on: {len(groups)} images in {len(set(groups))} "
            "groups; take more images, or --validation 0"
        )
    return parts


def training_batches(
    dataset: Pairs,
    indices: Sequence[int],
    settings: Settings,
    *,
    stage: int,
    epoch: int,
    share: Share,
    first: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's part of every batch of an epoch, from batch number ``first`` on; drop a last short batch.

    The result does not depend on ``workers``, nor on what was drawn before.
    """
    order = np.random.default_rng([settings.seed, 2, stage, epoch]).permutation(np.asarray(indices))
    size = min(settings.batch, len(indices))
    count = steps_of(len(indices), settings, stage, epoch)
    batches_by_phase: dict[
        tuple[int, bool], list[list[int]]
    ] = {}  # in the order of steps: each phase comes once
    for number in range(first, count):
        batch_indices = order[size * number : size * (number + 1)].tolist()
        step = epoch * _steps_of_a_pass(len(indices), settings) + number
        phase = (
            side_of(settings, len(indices), stage, step),
            shows_attacks(settings, len(indices), stage, step),
        )
        batches_by_phase.setdefault(phase, []).append(batch_indices[share.rank :: share.of])
    for (side, attacks), lists in batches_by_phase.items():
        yield from _loaded(_Cut(dataset, settings, side, stage, epoch, attacks), lists, workers)


def validation_batches(
    dataset: Pairs, indices: Sequence[int], settings: Settings, *, stage: int, share: Share, workers: int
) -> Iterator[Batch]:
    """Yield this process's part of the validation images, cut from the middle: nothing is random."""
    own_indices = list(indices)[share.rank :: share.of]
    lists = [
        own_indices[start : start + settings.batch] for start in range(0, len(own_indices), settings.batch)
    ]
    side = side_of(settings, len(indices), stage, None)
    yield from _loaded(_Cut(dataset, settings, side, stage), lists, workers)


def side_of(settings: Settings, images: int, stage: int, step: int | None) -> int:
    """Return the side of the squares that a step trains on; for step None, of those that validation takes."""
    loss = settings.stages[stage].loss
    if loss == "mgr" and settings.mgr_side:
        return settings.mgr_side
    early = step is not None and step < SMALLER_SHARE * steps_of_stage(images, settings, stage)
    return settings.first_side if loss == "find" and early and settings.first_side else settings.side


def shows_attacks(settings: Settings, images: int, stage: int, step: int) -> bool:
    """Tell whether a step sees attacked images: a finder's first steps may see originals and random noise alone."""
    finds = settings.stages[stage].loss == "find"
    return not finds or step >= settings.attacks_from * steps_of_stage(images, settings, stage)


def epochs_of(images: int, settings: Settings, stage: int) -> int:
    """Count the passes over the data in a stage; the last may be cut short."""
    stage_settings = settings.stages[stage]
    return (
        -(-stage_settings.steps // _steps_of_a_pass(images, settings))
        if stage_settings.steps
        else stage_settings.epochs
    )


def steps_of_stage(images: int, settings: Settings, stage: int) -> int:
    """Count the steps of a whole stage."""
    stage_settings = settings.stages[stage]
    return stage_settings.steps or stage_settings.epochs * _steps_of_a_pass(images, settings)


def steps_of(images: int, settings: Settings, stage: int, epoch: int) -> int:
    """Count the steps of one epoch: those of a pass, or the last ones of the stage."""
    steps_of_pass = _steps_of_a_pass(images, settings)
    return min(steps_of_pass, steps_of_stage(images, settings, stage) - epoch * steps_of_pass)


def _steps_of_a_pass(images: int, settings: Settings) -> int:
    return max(1, images // settings.batch)


class _Cut(Dataset[Batch]):
    """A dataset of cut images. A class, since torch's loader wants one."""

    def __init__(
        self,
        dataset: Pairs,
        settings: Settings,
        side: int,
        stage: int,
        epoch: int | None = None,
        attacks: bool = True,
    ) -> None:
        self.dataset, self.settings, self.side = dataset, settings, side
        self.stage, self.epoch, self.attacks = stage, epoch, attacks

    def __getitem__(self, index: int) -> Batch:
        item = self.dataset[index]
        batch = Batch(item["original"][None], item["adversarial"][None], item["mask"][None])
        settings, stage = self.settings, self.settings.stages[self.stage]
        if self.epoch is None:
            return _fitted(batch, settings.fit, self.side, None)
        rng = np.random.default_rng([settings.seed, 3, self.stage, self.epoch, index])
        batch = _fitted(batch, settings.fit, self.side, rng)
        if not settings.attack:  # else the attacked image is not there yet
            view = _draw_view(settings, stage.loss, self.attacks, rng)
            batch = _shown(batch, view, settings, rng)
        return _turned_at_random(batch, rng) if "flip" in settings.augment else batch


def _loaded(cut: _Cut, lists: list[list[int]], workers: int) -> Iterator[Batch]:
    yield from DataLoader(cut, batch_sampler=lists, num_workers=workers, collate_fn=_joined)


def _joined(items: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat(list(parts)) for parts in zip(*items, strict=True)))


def _fitted(batch: Batch, fit: str, side: int, rng: np.random.Generator | None) -> Batch:
    """Bring a batch of one to the training size; images smaller than a crop are continued by reflection."""
    if fit != CROP:
        size = (side, side)
        return Batch(
            resize(batch.original, size, antialias=fit == ANTIALIASED),
            resize(batch.attacked, size, antialias=fit == ANTIALIASED),
            F.interpolate(batch.mask, size, mode="nearest"),
        )
    height, width = batch.original.shape[-2:]
    tall, wide = max(height, side), max(width, side)
    first_row, first_column = ((length - side) // 2 // GRID * GRID for length in (tall, wide))
    if rng is not None:
        # off this grid, traces of JPEG's blocks and of the camera's mosaic would lie elsewhere in every crop
        first_row, first_column = (
            GRID * int(rng.integers(0, (length - side) // GRID + 1)) for length in (tall, wide)
        )
    return Batch(
        *(
            pad_to(image, tall, wide)[..., first_row : first_row + side, first_column : first_column + side]
            for image in batch
        )
    )


class _View(Enum):
    """What a step shows of an image."""

    BARE, NOISY, ATTACKED = range(3)


def _draw_view(settings: Settings, loss: str, attacks: bool, rng: np.random.Generator) -> _View:
    """Draw a view by the shares of the settings; without attacks, those of bare and noisy originals fill the batch."""
    if loss != "find":
        return _View.ATTACKED
    unattacked = settings.originals + settings.noisy
    draw = rng.random() if attacks else unattacked * rng.random()
    if draw < settings.originals:
        return _View.BARE
    return _View.NOISY if draw < unattacked else _View.ATTACKED


def _shown(batch: Batch, view: _View, settings: Settings, rng: np.random.Generator) -> Batch:
    """Put the view of one image in the attacked one's place, its noise varied as ``augment`` asks."""
    if view is _View.BARE:
        batch = batch._replace(attacked=batch.original)
    elif view is _View.NOISY:
        batch = batch._replace(attacked=_noisy(batch.original, rng))
    if "perturb" in settings.augment and not torch.equal(batch.attacked, batch.original):
        batch = batch._replace(attacked=_perturbed(batch.original, batch.attacked, rng))
    return batch


def _turned_at_random(batch: Batch, rng: np.random.Generator) -> Batch:
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    turn = rng.random() < 0.5
    return Batch(*(_turned(image.flip(axes), turn).contiguous() for image in batch))


def attacked_anew(
    batch: Batch,
    attack: Attack,
    settings: Settings,
    loss: str,
    when: tuple[int, int, int],
    *,
    attacks: bool = True,
) -> Batch:
    """Attack the originals of a batch that are shown attacked, and vary the noise of each.

    Args:
        batch: cut and turned; its attacked images are replaced.
        attack: of the localizer.
        settings: whose ``augment``, ``originals`` and ``noisy`` apply.
        loss: of the stage.
        when: stage, epoch and step, which every random number follows from.
        attacks: false where the step shows no attacked images.
    """
    rngs = [np.random.default_rng([settings.seed, 5, *when, number]) for number in range(len(batch.original))]
    views = [_draw_view(settings, loss, attacks, rng) for rng in rngs]
    shown_attacked = [number for number, view in enumerate(views) if view is _View.ATTACKED]
    attacked = batch.original.clone()
    if shown_attacked:  # an attack costs as much as a step: none is made to be thrown away
        seed = int(np.random.default_rng([settings.seed, 4, *when]).integers(2**62))
        draws = torch.Generator().manual_seed(seed)
        attacked[shown_attacked] = attack(batch.original[shown_attacked], batch.mask[shown_attacked], draws)
    images = []
    pairs = zip(batch.original, attacked, batch.mask, strict=True)
    for pair, view, rng in zip(pairs, views, rngs, strict=True):
        single = Batch(*(image[None].cpu() for image in pair))
        images.append(_shown(single, view, settings, rng).attacked)
    return batch._replace(attacked=torch.cat(images).to(batch.original))


def _noisy(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add up to 4 levels of Gaussian or sign noise, rounded to 8 bits: a finder must see through more than one attack."""
    levels = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < 0.5:
        levels = np.sign(levels)
    levels *= np.float32(rng.uniform(0.5, 4.0))
    return (image + torch.from_numpy(levels).round() / 255.0).clamp(0.0, 1.0)


def _turned(image: Tensor, turn: bool) -> Tensor:
    return image.transpose(-2, -1) if turn else image


def _perturbed(original: Tensor, attacked: Tensor, rng: np.random.Generator) -> Tensor:
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
