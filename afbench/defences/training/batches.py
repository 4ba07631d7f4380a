"""The batches of a stage: a pure function of its rules, the epoch and the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from afbench.defences.padding import pad_to
from afbench.images import resize

from .batch_rules import ANTIALIASED, CROP, BatchRules
from .held_pairs import GRID, HeldPairs, held_batches
from .pairs import Batch, Pairs, Share


def training_batches(
    dataset: Pairs,
    indices: Sequence[int],
    rules: BatchRules,
    *,
    epoch: int,
    share: Share,
    first: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield this process's part of every batch of an epoch, from batch number ``first`` on; drop a last short batch.

    The result does not depend on ``workers``, nor on what was drawn before.
    """
    images = len(indices)
    order = np.random.default_rng([rules.seed, 2, rules.stage, epoch]).permutation(np.asarray(indices))
    size = rules.step_size(images)
    numbers = range(first, rules.steps_of_epoch(images, epoch))
    first_step = epoch * rules.steps_of_pass(images)

    def phase_of(number: int) -> tuple[int, bool]:
        step = first_step + number
        return rules.side_at(images, step), rules.shows_attacks_at(images, step)

    # a loader cuts all its batches alike, so each phase has its own
    for (side, shows_attacks), group in groupby(numbers, phase_of):
        numbers_of_phase = list(group)
        lists = [
            order[size * number : size * (number + 1)].tolist()[share.rank :: share.of]
            for number in numbers_of_phase
        ]
        if isinstance(dataset, HeldPairs):
            draws_of = [
                [rules.seed, 6, rules.stage, epoch, number, share.rank] for number in numbers_of_phase
            ]
            yield from held_batches(
                dataset, lists, rules, side, shows_attacks=shows_attacks, draws_of=draws_of
            )
        else:
            yield from _load(_CutPairs(dataset, rules, side, epoch, shows_attacks), lists, workers)


def validation_batches(
    dataset: Pairs, indices: Sequence[int], rules: BatchRules, *, share: Share, workers: int
) -> Iterator[Batch]:
    """Yield this process's part of the validation images, cut from the middle: nothing is random."""
    own_indices = list(indices)[share.rank :: share.of]
    starts = range(0, len(own_indices), rules.batch)  # the last batch may be short: every image counts
    lists = [own_indices[start : start + rules.batch] for start in starts]
    side = rules.side_at(len(indices), None)
    if isinstance(dataset, HeldPairs):
        yield from held_batches(dataset, lists, rules, side)
    else:
        yield from _load(_CutPairs(dataset, rules, side), lists, workers)


@dataclass(frozen=True)
class _CutPairs(Dataset[Batch]):
    """Pairs as batches of one, cut to ``side``; without an epoch, nothing is random. A class, since torch's loader wants one."""

    dataset: Pairs
    rules: BatchRules
    side: int
    epoch: int | None = None
    shows_attacks: bool = True

    def __getitem__(self, index: int) -> Batch:
        item, rules = self.dataset[index], self.rules
        batch = Batch(item["original"][None], item["adversarial"][None], item["mask"][None])
        if self.epoch is None:
            return _fit(batch, rules.fit, self.side, None)
        # by image and epoch, so that no draw depends on which reader makes it
        rng = np.random.default_rng([rules.seed, 3, rules.stage, self.epoch, index])
        batch = _fit(batch, rules.fit, self.side, rng)
        if rules.vary is not None:
            batch = rules.vary(batch, rng, self.shows_attacks)
        return _flip_at_random(batch, rng) if rules.flip else batch


def _load(cut_pairs: _CutPairs, lists: list[list[int]], workers: int) -> Iterator[Batch]:
    yield from DataLoader(cut_pairs, batch_sampler=lists, num_workers=workers, collate_fn=_join)


def _join(items: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat(list(parts)) for parts in zip(*items, strict=True)))


def _fit(batch: Batch, fit: str, side: int, rng: np.random.Generator | None) -> Batch:
    """Bring a batch of one to the training size; images smaller than a crop are continued by reflection."""
    if fit != CROP:
        size = (side, side)
        return Batch(
            resize(batch.original, size, antialias=fit == ANTIALIASED),
            resize(batch.attacked, size, antialias=fit == ANTIALIASED),
            F.interpolate(batch.mask, size, mode="nearest"),  # stays 0 or 1
        )
    height, width = batch.original.shape[-2:]
    tall, wide = max(height, side), max(width, side)
    first_row, first_column = ((length - side) // 2 // GRID * GRID for length in (tall, wide))
    if rng is not None:
        first_row, first_column = (
            GRID * int(rng.integers(0, (length - side) // GRID + 1)) for length in (tall, wide)
        )
    rows, columns = slice(first_row, first_row + side), slice(first_column, first_column + side)
    return Batch(*(pad_to(image, tall, wide)[..., rows, columns] for image in batch))


def _flip_at_random(batch: Batch, rng: np.random.Generator) -> Batch:
    axes = [axis for axis in (-2, -1) if rng.random() < 0.5]
    transpose = rng.random() < 0.5
    flipped = [image.flip(axes) for image in batch]
    return Batch(*((image.mT if transpose else image).contiguous() for image in flipped))
