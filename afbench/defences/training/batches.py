"""The batches of a stage: a pure function of its rules, the epoch and the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .batch_cuts import cut, cut_at_random
from .batch_rules import BatchRules
from .pairs import Batch, HeldPairs, Pairs, Share


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
            for number, own_indices in zip(numbers_of_phase, lists, strict=True):
                rng = np.random.default_rng([rules.seed, 6, rules.stage, epoch, number, share.rank])
                yield cut_at_random(dataset.gather(own_indices), rules, side, rng, shows_attacks)
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
        yield from (cut(dataset.gather(indices), rules, side) for indices in lists)
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
            return cut(batch, rules, self.side)
        # by image and epoch, so that no draw depends on which reader makes it
        rng = np.random.default_rng([rules.seed, 3, rules.stage, self.epoch, index])
        return cut_at_random(batch, rules, self.side, rng, self.shows_attacks)


def _load(cut_pairs: _CutPairs, lists: list[list[int]], workers: int) -> Iterator[Batch]:
    yield from DataLoader(cut_pairs, batch_sampler=lists, num_workers=workers, collate_fn=_join)


def _join(items: Sequence[Batch]) -> Batch:
    return Batch(*(torch.cat(list(parts)) for parts in zip(*items, strict=True)))
