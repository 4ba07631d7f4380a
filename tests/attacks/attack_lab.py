"""What the attack tests share: a small localizer, its loss, 8-bit images, and the table of attacks.

An attack added to ``ATTACKS`` is put under every test of test_every_attack.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from attacks import (
    LossFn,
    PixelLossFn,
    apgd,
    bim,
    cospgd,
    cw,
    cw_search,
    fgsm,
    mifgsm,
    noise,
    pgd,
    pgn,
    segpgd,
    signs,
    square,
    uniform,
)

SIZE = 12
NEIGHBOURS = 4
QUERIES = 20
CW_WEIGHT = 1000.0
ROUNDS = 2

Run = Callable[[LossFn, Tensor, Tensor, Tensor, int], Tensor]
"""Loss, image, phi (N,1,1,1), keys (N,) of the random draws, steps; alpha does not depend on steps."""


@dataclass(frozen=True)
class Attack:
    """An attack behind the one signature that the shared tests call.

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


def _run_pgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return pgd(loss, image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def neighbours(image: Tensor, keys: Tensor, count: int = NEIGHBOURS) -> Callable[[int], Tensor]:
    """Draw ``(count, N, 3, H, W)`` for each step, keyed by image."""
    return lambda step: torch.stack(
        [uniform(keys, shape_of(image), step * count + each) for each in range(count)]
    )


def _run_pgn(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return pgn(loss, image, noise=neighbours(image, keys), phi=phi, alpha=phi / 10, steps=steps)


def _run_cw(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    (attacked,) = cw(lambda x: -loss(x), image, steps=[steps], c=CW_WEIGHT)
    return attacked


def _run_cw_search(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return cw_search(
        lambda x: -loss(x),
        image,
        steps=steps,
        rounds=ROUNDS,
        score=lambda x: (-loss(x)).exp(),
        store=lambda x: x,
        c=CW_WEIGHT,
    )


def as_pixels(loss: LossFn) -> PixelLossFn:
    """What attacks on pixels are given for a loss of whole images.

    Of a problem's own loss that of its pixels; of any other one pixel that is always as wrong, and has its gradient.
    """
    owner = getattr(loss, "__self__", None)
    if isinstance(owner, Problem):
        return owner.losses

    def one_pixel(x: Tensor) -> Tensor:
        value = loss(x)
        return (0.5 + (value - value.detach())).reshape(-1, 1, 1, 1)

    return one_pixel


def _run_segpgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return segpgd(as_pixels(loss), image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def _run_cospgd(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    start = uniform(keys, shape_of(image), 0)
    return cospgd(as_pixels(loss), image, start=start, phi=phi, alpha=phi / 4, steps=steps)


def _run_square(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
    return square(
        loss,
        image,
        stripes=signs(keys, (3, 1, image.shape[3]), 0),
        draws=lambda query: uniform(keys, (5, 1, 1), query).flatten(1),
        phi=phi,
        queries=QUERIES * steps,
    )


ATTACKS = [
    Attack("fgsm", lambda loss, x, phi, keys, steps: fgsm(loss, x, phi=phi), lambda steps: 1, one_step=True),
    Attack(
        "bim",
        lambda loss, x, phi, keys, steps: bim(loss, x, phi=phi, alpha=phi / 4, steps=steps),
        lambda steps: steps,
    ),
    Attack("pgd", _run_pgd, lambda steps: steps, random=True),
    Attack(
        "mifgsm",
        lambda loss, x, phi, keys, steps: mifgsm(loss, x, phi=phi, alpha=phi / 10, steps=steps),
        lambda steps: steps,
    ),
    Attack(
        "apgd",
        lambda loss, x, phi, keys, steps: apgd(loss, x, phi=phi, steps=steps),
        lambda steps: steps,
        looks=1,
    ),
    Attack("pgn", _run_pgn, lambda steps: 2 * NEIGHBOURS * steps),
    Attack("cw", _run_cw, lambda steps: steps, bounded=False),
    Attack("cw_search", _run_cw_search, lambda steps: ROUNDS * steps, bounded=False, looks=ROUNDS),
    Attack("segpgd", _run_segpgd, lambda steps: steps, random=True, weighted=True),
    Attack("cospgd", _run_cospgd, lambda steps: steps, random=True, weighted=True),
    Attack("square", _run_square, lambda steps: 0, queries=lambda steps: QUERIES * steps),
]


def run_noise(image: Tensor, phi: Tensor, keys: Tensor) -> Tensor:
    return noise(image, signs=signs(keys, shape_of(image), 0), phi=phi)


class Localizer(nn.Module):
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
        hidden = torch.tanh(self.norm(self.first(6 * (image - 0.5))))
        return self.second(self.drop(hidden))


@dataclass(frozen=True)
class Problem:
    """Eight-bit images, their masks, and a localizer to be misled."""

    image: Tensor
    mask: Tensor
    keys: Tensor
    localizer: Localizer = field(default_factory=Localizer)

    def loss(self, x: Tensor) -> Tensor:
        """Per-image cross-entropy; ``x`` holds the images once or repeated as by ``repeat(k, 1, 1, 1)``."""
        return self.losses(x).mean((1, 2, 3))

    def losses(self, x: Tensor) -> Tensor:
        """The same for every pixel, ``(N, 1, H, W)``."""
        mask = self.mask.to(x).repeat(len(x) // len(self.mask), 1, 1, 1)
        return nn.functional.softplus((1 - 2 * mask) * self.localizer(x))

    def phi(self, levels: float) -> Tensor:
        return torch.full((len(self.image), 1, 1, 1), levels / 255, dtype=self.image.dtype)

    def part(self, index: slice | list[int]) -> "Problem":
        return Problem(self.image[index], self.mask[index], self.keys[index], self.localizer)


def problem(count: int = 4, size: int = SIZE, seed: int = 0) -> Problem:
    """Make float64 images that are exact 8-bit levels, black and white included, and masks the localizer finds."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(-40, 296, (count, 3, size, size), generator=generator).clamp(0, 255)
    image = levels.double() / 255
    localizer = Localizer()
    with torch.no_grad():
        mask = (localizer(image) > 0).double()
    return Problem(image, mask, torch.arange(count) * 1000 + seed, localizer)


def shape_of(image: Tensor) -> tuple[int, int, int]:
    _, channels, height, width = image.shape
    return channels, height, width


def to_levels(attacked: Tensor, original: Tensor, phi: Tensor | None = None) -> Tensor:
    """Round to 8-bit levels: |delta| half away from zero with slack 1e-3, clipped to floor(255 phi + 1e-3)."""
    delta = (attacked.double() - original.double()) * 255
    moved = (delta.abs() + 0.5 + 1e-3).floor()
    if phi is not None:
        moved = torch.minimum(moved, (255 * phi.double() + 1e-3).floor())
    return (original.double() * 255).round() + delta.sign() * moved


def linear(weights: Tensor) -> LossFn:
    """Make a loss whose gradient is ``weights`` everywhere, tiled for repeated images."""
    return lambda x: (x * weights.repeat(len(x) // len(weights), 1, 1, 1)).sum((1, 2, 3))


class Counted:
    """A loss that counts the images it was differentiated at."""

    def __init__(self, loss: LossFn) -> None:
        self.loss = loss
        self.images = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.images += len(x)
        return self.loss(x)
