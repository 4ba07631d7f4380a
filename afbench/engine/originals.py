"""Copy the originals to the device where they are attacked, once for all batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from afbench.core import Sample
from afbench.images import upload


@dataclass(frozen=True)
class Originals:
    """Samples, and their 8-bit pixels on a device: copied there once, for every batch that is attacked or judged."""

    samples: Sequence[Sample]
    images: Sequence[Tensor]
    masks: Sequence[Tensor]
    device: str


def upload_originals(samples: Sequence[Sample], device: str) -> Originals:
    """Copy the pixels of samples to the device that they are to be attacked on."""
    return Originals(
        samples,
        upload([sample.image for sample in samples], device),
        upload([sample.mask for sample in samples], device),
        device,
    )
