"""Pairs of an original and its attacked image, as a torch Dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor
from torch.utils.data import Dataset

from afbench.images import masks_to_tensor, to_tensor

from .store import Row, Store

Item: TypeAlias = dict[str, Any]
"""One pair as ``PairDataset`` describes it, or what a user's own transform made of it."""


class Pair(NamedTuple):
    """An image and its original; the same row twice where nobody attacked it."""

    row: Row
    original: Row


class PairDataset(Dataset[Any]):
    """Random access to pairs; holds no open file across processes.

    ``dataset[i]`` is ``{"sample_id", "group", "source", "config": str, "original", "adversarial": float32 (3, H, W)
    in [0, 1], "mask": float32 (1, H, W) of 0 and 1}``, or what ``transform`` returns for it. Lists in the same order, known without decoding: ``groups``,
    ``sizes`` (H, W), ``sample_ids``, ``sources``, ``configs``.
    """

    def __init__(
        self,
        store: Store,
        originals: Mapping[str, Store],
        pairs: Sequence[Pair],
        transform: Callable[[Item], Any] | None = None,
    ) -> None:
        """Keep the store of the attacked images, by source the stores of the originals, and what changes each item."""
        self._store = store
        self._originals = originals
        self._pairs = pairs
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Any:
        """Read and decode one pair, and apply the transform.

        Raises:
            IndexError: beyond either end.
            AfbenchError: if what is stored is damaged.
        """
        row, original_row = self._pairs[index]
        base = self._originals[row.source]
        original, mask = base.image(original_row), base.mask(original_row)
        first = to_tensor([original])[0]
        if row.config == original_row.config:
            # a copy: a user may change one of the two in place
            adversarial: Tensor = first.clone()
        else:
            adversarial = to_tensor([self._store.image(row, original)])[0]
        item: Item = {
            "sample_id": row.sample_id,
            "group": row.group,
            "source": row.source,
            "config": row.config,
            "original": first,
            "adversarial": adversarial,
            "mask": masks_to_tensor([mask])[0],
        }
        return item if self._transform is None else self._transform(item)

    @property
    def groups(self) -> list[str]:
        """What must stay on one side of a split (a photograph, a scene), image by image."""
        return [pair.row.group for pair in self._pairs]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of every image."""
        return [(pair.row.height, pair.row.width) for pair in self._pairs]

    @property
    def sample_ids(self) -> list[str]:
        return [pair.row.sample_id for pair in self._pairs]

    @property
    def sources(self) -> list[str]:
        return [pair.row.source for pair in self._pairs]

    @property
    def configs(self) -> list[str]:
        return [pair.row.config for pair in self._pairs]
