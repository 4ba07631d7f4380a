"""Forgeries made for a training, each with its attacked copy, in files of plain bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from afbench.core import ByteImage
from afbench.defences.training.pairs import Batch
from afbench.files import commit_bytes
from afbench.sources.synthesis import load_photographs, synthesize

SEED = 2**40 + 4052
"""Outside what ``afbench --seed`` accepts, so nothing that `demo` or `synthetic` can show was ever trained on."""
SIDE = 128
PHOTOGRAPH_SHARE = 0.75
PICTURES_A_FILE = 250
_ATTACKED_AT_ONCE = 50
_ORIGINAL, _ATTACKED, _MASK = slice(0, 3), slice(3, 6), slice(6, 7)


class SynthesisedPairs:
    """Pairs for a training, in files of ``(pictures, H, W, 7)`` uint8: the original's colours, the attacked image's, the mask (0 or 255).

    A GPU that trains on them holds them all; for a CPU they stay in their files.
    """

    def __init__(self, paths: Sequence[Path], count: int, device: str) -> None:
        self._files = [np.load(path, mmap_mode="r") for path in paths]
        self._device = torch.device(device)
        self._held = None
        if self._device.type != "cpu":
            self._held = torch.cat([torch.tensor(planes).to(self._device) for planes in self._files])[:count]
        self._count = count
        self.groups = [str(index) for index in range(count)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.gather([index])
        return {"original": batch.original[0], "adversarial": batch.attacked[0], "mask": batch.mask[0]}

    def gather(self, indices: Sequence[int]) -> Batch:
        """Return pairs as a batch on the device that trains, ``(N, C, H, W)`` with the channels last in memory."""
        if self._held is None:
            planes = torch.from_numpy(np.stack([self._read(index) for index in indices]))
        else:
            planes = self._held[torch.tensor(indices, device=self._device)]
        values = planes.permute(0, 3, 1, 2) / 255
        return Batch(values[:, _ORIGINAL], values[:, _ATTACKED], values[:, _MASK])

    def _read(self, index: int) -> ByteImage:
        planes: ByteImage = self._files[index // PICTURES_A_FILE][index % PICTURES_A_FILE]
        return planes


class _Part(NamedTuple):
    """Which pictures a file holds."""

    path: Path
    indices: range


def make_pairs(
    folder: Path,
    count: int,
    attack: Callable[[Tensor, Tensor], Tensor],
    *,
    workers: int,
    device: str,
    advance: Callable[[int], None] = lambda pictures: None,
) -> SynthesisedPairs:
    """Synthesise forgeries of the train split's photographs and attack each; files that are there are kept.

    Args:
        folder: where the files lie.
        count: pictures; more of them begin with the same ones.
        attack: originals ``(N, 3, H, W)`` in [0, 1] and masks ``(N, 1, H, W)`` to attacked images of 8 bits.
        workers: processes that synthesise while this one attacks.
        device: where the attack computes.
        advance: is told of pictures that are done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        _Part(folder / f"{start:07d}.npy", range(start, min(start + PICTURES_A_FILE, count)))
        for start in range(0, count, PICTURES_A_FILE)
    ]
    missing = [part for part in parts if not _holds(part)]
    advance(count - sum(len(part.indices) for part in missing))
    # spawned: a process that has begun to use a GPU must not be forked
    with get_context("spawn").Pool(min(workers, max(1, len(missing)))) as pool:
        for part, forgeries in zip(
            missing, pool.imap(_forge, [part.indices for part in missing]), strict=True
        ):
            content = BytesIO()
            np.save(content, _with_attacked(forgeries, attack, device))
            commit_bytes(part.path, content.getvalue())
            advance(len(part.indices))
    return SynthesisedPairs([part.path for part in parts], count, device)


def _holds(part: _Part) -> bool:
    """Say whether a file is there with all its pictures: that of a smaller count may end earlier."""
    return part.path.exists() and len(np.load(part.path, mmap_mode="r")) == len(part.indices)


def _forge(indices: range) -> ByteImage:
    """Synthesise forgeries as ``(pictures, H, W, 4)``: colours and mask."""
    cv2.setNumThreads(1)
    planes = np.empty((len(indices), SIDE, SIDE, 4), np.uint8)
    for position, index in enumerate(indices):
        forgery = synthesize(
            SEED,
            index,
            size=(SIDE, SIDE),
            photographs=load_photographs("train"),
            photograph_share=PHOTOGRAPH_SHARE,
        )
        planes[position] = np.dstack([forgery.image, forgery.mask])
    return planes


def _with_attacked(
    forgeries: ByteImage, attack: Callable[[Tensor, Tensor], Tensor], device: str
) -> ByteImage:
    """Put the attacked colours between the original ones and the mask."""
    batches = torch.from_numpy(forgeries).split(_ATTACKED_AT_ONCE)
    attacked = []
    for batch in batches:
        planes = batch.permute(0, 3, 1, 2).to(device=device, dtype=torch.float32) / 255
        levels = attack(planes[:, :3].contiguous(), planes[:, 3:].contiguous()) * 255
        attacked.append(levels.round().to("cpu", torch.uint8).permute(0, 2, 3, 1))
    return np.concatenate([forgeries[..., :3], torch.cat(attacked).numpy(), forgeries[..., 3:]], axis=3)
