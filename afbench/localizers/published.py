"""A published network as a localizer: it resizes images like its authors, inside the differentiable graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.core import ByteImage
from afbench.images import resize

from .feature_hooks import collect_outputs
from .saving import save_checkpoint

Resolution = Literal["official", "input"]
LEAST_SIDE = 16
"""Smaller images are padded, because no network here has an output for them."""
UNSEEN_LOGIT = -20.0
"""Logit of a pixel beyond the canvas: not forged, at a probability of 2e-9, and without a gradient."""


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """How a network becomes a localizer.

    Attributes:
        network: builds the network, with weights that are replaced later.
        answer: takes the network and an image at the network's size, and returns in one pass what ``logits`` and
            ``probability`` are made of.
        logits: takes an answer and the image's size there (height, width), and returns the logits that attacks raise.
        probability: takes the same, and returns the probability that is scored, as its authors compute it.
        threshold: a pixel is forged where the probability is above it.
        logit_threshold: a pixel is forged where the sigmoid of its logit is above it.
        side: side of the square that its authors resize to; None where they take the image as it is.
        antialias: whether that resize is antialiased (Pillow) or not (OpenCV).
        canvas: side of the black square that its authors lay an image into, at the top left; what lies beyond is cut. None
            where they do not.
        multiple: an image that is neither resized nor laid into a canvas is padded to sides that are multiples of this.
        least_side: the least side after that padding.
        thirds: modules whose outputs are the shallow, middle and topmost features (our choice, after the paper's proposal).
        logit: describes the logits in words, for the manifest.
        image_score: takes the network and an image at the network's size, and returns the authors' own score of whole images
            ``(N,)`` in [0, 1], above 0.5 where forged; None where there is none.
        kib_per_pixel: memory of one gradient for each pixel that the network sees, measured in float32.
        settle: runs once after the weights are loaded, before the first use.
    """

    network: Callable[[], nn.Module]
    answer: Callable[[nn.Module, Tensor], Any]
    logits: Callable[[Any, tuple[int, int]], Tensor]
    probability: Callable[[Any, tuple[int, int]], Tensor]
    side: int | None
    thirds: Mapping[str, Sequence[str]]
    logit: str = "the network's own"
    threshold: float = 0.5
    logit_threshold: float = 0.5
    antialias: bool = False
    canvas: int | None = None
    multiple: int = 1
    least_side: int = LEAST_SIDE
    image_score: Callable[[nn.Module, Tensor], Tensor] | None = None
    kib_per_pixel: float = 4.0
    settle: Callable[[nn.Module], object] = lambda network: None


@dataclass(frozen=True)
class PublishedLocalizer:
    """A network in evaluation mode, frozen. ``untrained`` is True for random weights.

    ``resolution`` ``input`` skips the authors' resize or canvas, for images that already have that size or another legal one.
    """

    name: str
    recipe: NetworkRecipe
    network: nn.Module
    weights_sha256: str
    untrained: bool
    resolution: Resolution

    @property
    def threshold(self) -> float:
        return self.recipe.threshold

    @property
    def logit_threshold(self) -> float:
        return self.recipe.logit_threshold

    @property
    def logit(self) -> str:
        return self.recipe.logit

    @property
    def kib_per_pixel(self) -> float:
        return self.recipe.kib_per_pixel

    @property
    def resize(self) -> str:
        """Describe how an image is resized for the network; "" where it is not."""
        method = "antialiased" if self.recipe.antialias else "bilinear"
        return f"{self.side}x{self.side}, {method}" if self.side else ""

    @property
    def side(self) -> int | None:
        """Return the side of the square that every image is resized to, or None."""
        return self.recipe.side if self.resolution == "official" else None

    @property
    def canvas(self) -> int | None:
        """Return the side of the black square that every image is laid into, or None."""
        return self.recipe.canvas if self.resolution == "official" else None

    @property
    def antialias(self) -> bool:
        """Return whether that resize is antialiased."""
        return self.recipe.antialias

    def logits(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)``, any finite values, to ``(N, 1, H, W)``: the network's own logits, resized to the image."""
        answer, size = self._answer(image)
        return self._sized_back(self.recipe.logits(answer, size), image, UNSEEN_LOGIT)

    def probability(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1]: the network's probability, resized to the image.

        Differs: no 8-bit file in between, except where the authors merge 8-bit tiles.
        """
        return self.probability_and_logits(image)[0]

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return both from one pass through the network."""
        answer, size = self._answer(image)
        return (
            self._sized_back(self.recipe.probability(answer, size), image, 0.0),
            self._sized_back(self.recipe.logits(answer, size), image, UNSEEN_LOGIT),
        )

    @property
    def image_score(self) -> Callable[[Tensor], Tensor] | None:
        """Return a function from images ``(N, 3, H, W)`` to the network's own score of each, ``(N,)`` in [0, 1]; None if it has none."""
        score = self.recipe.image_score
        return None if score is None else lambda image: score(self.network, self._sized(image))

    def features(self, image: Tensor, third: str = "middle") -> list[Tensor]:
        """Return the feature maps of the ``shallow``, ``middle`` or ``topmost`` third, in the order they are computed."""
        return collect_outputs(self.network, self.recipe.thirds[third], lambda: self._answer(image))

    def save_checkpoint(self, path: str | Path) -> Path:
        """Write the weights to a new file under the names of the release; ``afbench weights add`` takes it."""
        return save_checkpoint(self.network, path)

    def unread_pixels(self, height: int, width: int) -> int:
        """Count the pixels that the network never sees: no attack can use them, and noise there changes nothing.

        A resize without antialiasing skips them, or they lie beyond the canvas.
        """
        if self.canvas is not None:
            return height * width - min(height, self.canvas) * min(width, self.canvas)
        if self.side is None or self.recipe.antialias:
            return 0
        return height * width - _lines_read(height, self.side) * _lines_read(width, self.side)

    def fit(self, image: ByteImage) -> ByteImage:
        """Resize 8-bit pixels ``(H, W, 3)`` or ``(H, W)`` as the authors do before the network sees them."""
        if self.side is None or image.shape[:2] == (self.side, self.side):
            return image
        if self.recipe.antialias:
            from PIL import Image

            return np.asarray(
                Image.fromarray(image).resize((self.side, self.side), Image.Resampling.BILINEAR)
            )
        return np.asarray(cv2.resize(image, (self.side, self.side), interpolation=cv2.INTER_LINEAR), np.uint8)

    def _answer(self, image: Tensor) -> tuple[Any, tuple[int, int]]:
        sized = self._sized(image)
        return self.recipe.answer(self.network, sized), (sized.shape[-2], sized.shape[-1])

    def _sized(self, image: Tensor) -> Tensor:
        image = image.contiguous(memory_format=torch.channels_last)
        if self.side is not None:
            return resize(image, (self.side, self.side), antialias=self.antialias)
        if self.canvas is not None:
            return F.pad(image[..., : self.canvas, : self.canvas], _below_right(image, (self.canvas,) * 2))
        height, width = (self._padded(side) for side in image.shape[-2:])
        padding = _below_right(image, (height, width))
        return F.pad(image, padding, mode="replicate") if any(padding) else image

    def _padded(self, side: int) -> int:
        return max(self.recipe.least_side, side + -side % self.recipe.multiple)

    def _sized_back(self, scores: Tensor, image: Tensor, unseen: float) -> Tensor:
        """Bring scores to the size of the image; ``unseen`` is the score of pixels beyond the canvas."""
        height, width = image.shape[-2:]
        if self.side is not None:
            return resize(scores, (height, width))
        scores = scores[..., :height, :width]
        padding = _below_right(scores, (height, width))
        return F.pad(scores, padding, value=unseen) if any(padding) else scores


def _below_right(image: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return what to pad an image by, right and below, to a size (height, width); nothing where it is larger."""
    return 0, max(0, size[1] - image.shape[-1]), 0, max(0, size[0] - image.shape[-2])


def _lines_read(side: int, target: int) -> int:
    line = torch.ones(1, 1, side, 1, dtype=torch.float64, requires_grad=True)
    (weight,) = torch.autograd.grad(resize(line, (target, 1)).sum(), line)
    return int((weight != 0).sum())


def call(network: nn.Module, image: Tensor) -> Tensor:
    """Return the answer of a network whose output is its logit."""
    return network(image)  # type: ignore[no-any-return]


def as_is(logit: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the logits of such a network."""
    return logit


def sigmoid(logit: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the probability of such a network."""
    return torch.sigmoid(logit)
