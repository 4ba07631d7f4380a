"""A small problem that shows what an attack does: a random localizer with its loss, and 8-bit images that it finds."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attacks.gradient import LossFn

SIZE = 12
Run = Callable[[LossFn, Tensor, Tensor, Tensor, int], Tensor]
"""Loss, image, phi (N,1,1,1), keys (N,) of the random draws, steps; alpha does not depend on steps."""


@dataclass(frozen=True)
class Candidate:
    """An attack behind the one signature that properties call.

    Attributes:
        gradients: gradients per image for a number of steps.
        one_step: takes no number of steps.
        bounded: stays in the phi ball.
        random: moves an image even where the gradient is zero.
        weighted: climbs another loss than the plain one, which may lag a little.
        queries: forward passes per image of an attack that takes no gradient.
        looks: forward passes per image besides those of the gradients.
    """

    name: str
    run: Run
    gradients: Callable[[int], int]
    one_step: bool = False
    bounded: bool = True
    random: bool = False
    weighted: bool = False
    queries: Callable[[int], int] | None = None
    looks: int = 0

    @property
    def iterative(self) -> bool:
        """Say whether it takes gradients, and a number of steps."""
        return not self.one_step and self.queries is None


class SmallLocalizer(nn.Module):
    """A random network with the layers that attacks could disturb: batch norm, dropout, parameters."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.5)
        self.second = nn.Conv2d(8, 1, 3, padding=1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.double().eval()

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] to logits ``(N, 1, H, W)``."""
        hidden = torch.tanh(self.norm(self.first(6 * (image - 0.5))))
        logits: Tensor = self.second(self.drop(hidden))
        return logits


@dataclass(frozen=True)
class AttackProblem:
    """Eight-bit images, their masks, and a localizer to be misled."""

    image: Tensor
    mask: Tensor
    keys: Tensor
    localizer: SmallLocalizer = field(default_factory=SmallLocalizer)

    def loss(self, x: Tensor) -> Tensor:
        """Compute the cross-entropy of each image; ``x`` holds the images once or repeated as by ``repeat(k, 1, 1, 1)``."""
        return self.losses(x).mean((1, 2, 3))

    def losses(self, x: Tensor) -> Tensor:
        """Compute the same of every pixel, ``(N, 1, H, W)``."""
        mask = self.mask.to(x).repeat(len(x) // len(self.mask), 1, 1, 1)
        return nn.functional.softplus((1 - 2 * mask) * self.localizer(x))

    def phi(self, levels: float) -> Tensor:
        """Return a radius of so many 8-bit levels for each image, ``(N, 1, 1, 1)``."""
        return torch.full((len(self.image), 1, 1, 1), levels / 255, dtype=self.image.dtype)

    def part(self, index: slice | list[int]) -> "AttackProblem":
        """Return the problem of some of its images."""
        return AttackProblem(self.image[index], self.mask[index], self.keys[index], self.localizer)


def problem(count: int = 4, size: int = SIZE, seed: int = 0) -> AttackProblem:
    """Make float64 images that are exact 8-bit levels, black and white included, and masks the localizer finds."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(-40, 296, (count, 3, size, size), generator=generator).clamp(0, 255)
    image = levels.double() / 255
    localizer = SmallLocalizer()
    with torch.no_grad():
        mask = (localizer(image) > 0).double()
    return AttackProblem(image, mask, torch.arange(count) * 1000 + seed, localizer)


def upright_problem() -> AttackProblem:
    """Make three images that are not square, with keys of every kind.

    Pixels are a multiple of 16: torch's vector loops hand what is left over to scalar code, which rounds
    ``softplus`` otherwise, so that the last bit of a gradient would depend on an image's place in the batch.
    """
    square = problem(3)
    keys = torch.tensor([11, -5, 2**40])
    image, mask = square.image[..., :8].contiguous(), square.mask[..., :8].contiguous()
    return AttackProblem(image, mask, keys, square.localizer)


def shape_of(image: Tensor) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` of a batch."""
    _, channels, height, width = image.shape
    return channels, height, width


def to_levels(attacked: Tensor, original: Tensor, phi: Tensor | None = None) -> Tensor:
    """Round to 8-bit levels: |delta| half away from zero with slack 1e-3, clipped to floor(255 phi + 1e-3)."""
    delta = (attacked.double() - original.double()) * 255
    moved = (delta.abs() + 0.5 + 1e-3).floor()
    if phi is not None:
        moved = torch.minimum(moved, (255 * phi.double() + 1e-3).floor())
    return (original.double() * 255).round() + delta.sign() * moved


class Counted:
    """A loss that counts the images it was differentiated at."""

    def __init__(self, loss: LossFn) -> None:
        self.loss = loss
        self.images = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.loss(x)
