"""An image-level classifier: forged or authentic, one answer for the whole image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afbench.defences.ansm.encoders import NO_WEIGHTS, fill_encoder
from afbench.defences.padding import pad
from afbench.defences.training.pairs import Pairs
from afbench.defences.training.weights_file import best_of, read_checkpoint
from afbench.localizers.checkpoint_files import fill, state_sha256
from afbench.localizers.nets.reference_net import WIDTHS, ForensicEncoder

FORMAT = "afbench-classifier-1"
_MULTIPLE = 32


class ForgeryClassifier(nn.Module):
    """Mean and spread of the two deepest maps of the embedded localizer's encoder, and one linear layer; 0.5 M parameters.

    Source: the setting of Zhao et al. 2018, arXiv 1803.11157. Differs: another, smaller network; theirs is not ours to copy.
    """

    def __init__(self, encoder_weights: str = NO_WEIGHTS) -> None:
        super().__init__()
        self.encoder = ForensicEncoder()
        if encoder_weights != NO_WEIGHTS:
            fill_encoder(self.encoder, encoder_weights)
        self.head = nn.Linear(2 * sum(WIDTHS[-2:]), 1)

    def forward(self, image: Tensor) -> Tensor:
        """Turn ``(N, 3, H, W)`` in [0, 1] into the logit of "forged", ``(N, 1)``."""
        maps = self.encoder(pad(image, _MULTIPLE))[-2:]
        # a forged place is unlike the rest of its image: the spread says so where the mean does not
        pooled = [
            part
            for features in maps
            for part in (features.mean(dim=(2, 3)), features.var(dim=(2, 3)).add(1e-4).sqrt())
        ]
        return self.head(torch.cat(pooled, dim=1))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class ImageLevel:
    """A classifier as a localizer whose mask is the same everywhere, so that every loss and attack takes it as it is.

    The mean over pixels of a constant map's cross-entropy is the cross-entropy of the one answer.
    """

    network: nn.Module
    weights_sha256: str
    name: str = "classifier"
    threshold: float = 0.5

    def logits(self, image: Tensor) -> Tensor:
        """Turn ``(N, 3, H, W)`` into logits ``(N, 1, H, W)``, constant over each image."""
        answer: Tensor = self.network(image)
        return answer[:, :, None, None].expand(-1, -1, *image.shape[-2:])

    def probability(self, image: Tensor) -> Tensor:
        """Return the logits as probabilities in [0, 1]."""
        return torch.sigmoid(self.logits(image))


def load_classifier(
    checkpoint: Path | None, *, encoder_weights: str = NO_WEIGHTS, seed: int = 0, device: str = "cpu"
) -> ImageLevel:
    """Load a classifier, or begin a new one.

    Args:
        checkpoint: a safetensors file, or the folder of a training (its best one); None for a new one.
        encoder_weights: what a new one's encoder starts from, ``none`` or the path of a state dict.
        seed: of a new one's other weights.
        device: where it lives.
    Returns:
        In evaluation mode; its parameters take gradients.
    Raises:
        UsageError: if there is none, or it is damaged or of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ForgeryClassifier(encoder_weights if checkpoint is None else NO_WEIGHTS)
    if checkpoint is not None:
        path = best_of(checkpoint)
        state, _ = read_checkpoint(path, FORMAT, "classifier")
        fill(network, state, str(path))
    return ImageLevel(network.eval().to(device), state_sha256(network))


def image_level(mask: Tensor) -> Tensor:
    """Return the truth of a constant map, of the shape of ``mask``: 1 everywhere where anything is forged, else 0."""
    return mask.amax(dim=(1, 2, 3), keepdim=True).expand_as(mask)


class Joined:
    """Several lists of pairs as one. A class, since a loader asks it by index."""

    def __init__(self, parts: Sequence[Pairs]) -> None:
        self.parts = parts
        self.groups = [group for part in parts for group in part.groups]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)
