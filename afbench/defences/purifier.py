"""The type of every defence: its function, and how an adaptive attack takes gradients through it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from afbench.core import Defence, Localizer, UsageError

Gradient = Literal["exact", "bpda", "surrogate"]
EOT_DRAWS = 8
"""Fixed draws of a random defence that an attack averages over."""
Param: TypeAlias = "int | float | str | bool"
RandomTransform: TypeAlias = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
"""Images ``(N, 3, H, W)`` and one generator for each of them."""


class Resize(NamedTuple):
    """How an image comes to ``side`` x ``side`` pixels before a module sees it, as it did when the module was trained."""

    side: int
    antialias: bool

    def __str__(self) -> str:
        return f"{self.side}x{self.side}, {'antialiased' if self.antialias else 'bilinear'}"


@dataclass(frozen=True, kw_only=True)
class Purifier:
    """A defence in front of a localizer.

    Attributes:
        name: of the kind, e.g. ``jpeg``.
        label: name and setting as configs and submissions show them, e.g. ``jpeg-75``.
        params: everything that decides its output, by name.
        apply: ``(N, 3, H, W)`` in [0, 1] to the same shape and range, or to the size of ``resize``; what is evaluated. The
            same image gives the same result in any batch: a random defence draws from the image's own pixels and ``seed``.
        gradient: ``exact``; ``bpda``: in the backward pass of ``through`` it counts as the identity; or ``surrogate``:
            the module takes hard decisions, and its own backward pass lets them count as the probabilities behind them.
        draw: of a random defence, image and number of a draw to its result under that draw, alike for every image; of a
            step of posting, its result at another quality. None where an attack sees what is evaluated.
        draws: how many of them an adaptive attack averages over.
        seed: of a random defence; None where ``apply`` draws nothing.
        weights_sha256: of what was trained; empty where nothing was.
        trained_on: attacks or configs that training saw.
        network: what was trained, if anything was.
        owner_sha256: weights of the localizer it was trained before; empty where it belongs to none.
        resize: what ``apply`` begins with, of a module that was trained on resized images; None where images keep
            their size.
        attack_at: at which size the images it was trained on were attacked, ``native`` or ``model``; empty where nothing
            was, or its checkpoint does not say.
        random_transform: of a random defence, what ``apply`` and ``draw`` hand their generators to.
    """

    name: str
    label: str
    params: Mapping[str, Param]
    apply: Defence
    gradient: Gradient = "exact"
    draw: Callable[[Tensor, int], Tensor] | None = None
    draws: int = 1
    seed: int | None = None
    weights_sha256: str = ""
    trained_on: Sequence[str] = ()
    network: nn.Module | None = field(default=None, repr=False)
    owner_sha256: str = ""
    resize: Resize | None = None
    attack_at: str = ""
    random_transform: RandomTransform | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.label

    @property
    def deterministic(self) -> bool:
        """Say whether an attack sees just what is evaluated."""
        return self.draw is None

    def through(self, image: Tensor, draw: int = 0) -> Tensor:
        """Purify as an adaptive attack differentiates it: by ``apply`` or, of a random defence, one of its fixed draws.

        Args:
            image: ``(N, 3, H, W)``; attacks may leave [0, 1].
            draw: from 0 to ``draws`` - 1.
        Returns:
            The shape that ``apply`` gives.
        Source: BPDA and EOT of Athalye et al. 2018, arXiv 1802.00420.
        """
        if self.draw is not None:
            return self.draw(image, draw)
        if self.gradient != "bpda":
            return self.apply(image)
        return straight_through(image, self.apply(image.detach()))

    def describe(self) -> dict[str, Any]:
        """Return all that decides the pixels of an attack through it, as plain data."""
        return {
            "name": self.name,
            "params": dict(self.params),
            "weights_sha256": self.weights_sha256,
            "gradient": self.gradient,
            "draws": self.draws,
            "seed": self.seed,
        }


def with_seed(purifier: Purifier, transform: RandomTransform, seed: int) -> Purifier:
    """Make a random defence of a transform: evaluated by a draw of the image's own pixels, attacked through fixed draws."""
    numbered_draw = keyed_by_number(transform, seed)

    def draw(image: Tensor, number: int) -> Tensor:
        return straight_through(image, numbered_draw(image.detach(), number))

    return replace(
        purifier,
        apply=keyed_by_pixels(transform, seed),
        draw=draw if purifier.gradient == "bpda" else numbered_draw,
        draws=EOT_DRAWS,
        seed=seed,
        random_transform=transform,
    )


def require_owner(defence: Purifier, localizer: Localizer) -> None:
    """Refuse a trained defence in front of other weights, or at another size, than it was trained before.

    What the localizer is called decides nothing.

    Raises:
        UsageError: with both hashes or sizes.
    """
    if defence.owner_sha256 not in ("", localizer.weights_sha256):
        raise UsageError(
            f"{defence.label} was trained before weights {defence.owner_sha256[:12]} of its localizer, these are "
            f"{localizer.weights_sha256[:12]}; train one before these with `afbench train {defence.name}`"
        )
    side = getattr(localizer, "side", None)
    if defence.resize and side not in (None, defence.resize.side):
        raise UsageError(
            f"{defence.label} was trained on images resized to {defence.resize}, but '{localizer.name}' sees them at "
            f"{side}x{side}; train one with `afbench train {defence.name} --resize {side}`"
        )


def straight_through(image: Tensor, purified: Tensor) -> Tensor:
    """Return ``purified``, whose gradient counts as that of ``image`` of the same shape (BPDA)."""
    return cast(Tensor, _StraightThrough.apply(image, purified))


class _StraightThrough(torch.autograd.Function):
    """Forward the purified image, backward the identity; not image + (purified - image), which would round."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, purified: Tensor) -> Tensor:
        return purified.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0], None


def keyed_by_pixels(transform: RandomTransform, seed: int) -> Defence:
    """Draw for each image from a hash of its 8-bit pixels, so that neither batch nor order matters."""

    def apply(image: Tensor) -> Tensor:
        # of 8 bits, since that is what every device agrees on
        levels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu()
        return transform(image, [_generator(seed, "pixels", pixels.numpy().tobytes()) for pixels in levels])

    return apply


def keyed_by_number(transform: RandomTransform, seed: int) -> Callable[[Tensor, int], Tensor]:
    """Draw number ``k``, the same for every image and every call, and none that ``keyed_by_pixels`` takes."""

    def draw(image: Tensor, number: int) -> Tensor:
        return transform(image, [_generator(seed, "draw", str(number).encode()) for _ in image])

    return draw


def _generator(seed: int, kind: str, data: bytes) -> torch.Generator:
    """Return random numbers on the CPU whatever the device, so that every device draws the same."""
    digest = hashlib.sha256(b"\0".join((b"afbench-defence-1", str(seed).encode(), kind.encode(), data)))
    # 56 bits: a seed is a signed number of 64
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:7], "little"))
