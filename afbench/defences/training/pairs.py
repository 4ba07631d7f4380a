"""The pairs that a training sees, and which of them are put aside to judge it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from afbench.core import UsageError


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


@runtime_checkable
class HeldPairs(Protocol):
    """Pairs of one size that give many items at once, as a batch on the device that trains."""

    def gather(self, indices: Sequence[int]) -> Batch: ...


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
    # sorted: the order in which images are read decides nothing
    order = [str(name) for name in np.random.default_rng([seed, 1]).permutation(sorted(sizes))]
    target_size = share * len(groups)
    aside: set[str] = set()
    # stable: the random order otherwise
    for name in sorted(order, key=lambda name: sizes[name] > 1.5 * target_size):
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
