"""Check that a user's own defence keeps the promises that every evaluation and every attack through it rest on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from afbench.core import UsageError
from afbench.crash import crash_line
from afbench.safe_convolutions import full_precision

from .purifier import Purifier

SIZES = ((48, 64), (75, 53))
"""Wide, and tall with odd sides: photographs have any size."""
TOLERANCE = 1e-3
"""Allowed difference between an image in a batch and alone."""


def require_sound(defence: Purifier, device: str = "cpu") -> None:
    """Try a defence on random images.

    Raises:
        UsageError: with the first promise that it breaks, and how to mend it.
    """
    for size in SIZES:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(2, 3, *size, generator=generator).to(device)
        images[1] /= 4  # darker, so that a statistic of the whole batch shows
        try:
            with full_precision(defence):
                problem = next(_problems(defence, images), "")
        except (Exception, SystemExit) as error:  # anything may happen in code that is not ours
            problem = (
                f"fails on images of {size[0]}x{size[1]} pixels ({crash_line(error)}); photographs have any size, "
                "so pad or resize inside"
            )
        if problem:
            raise UsageError(f"defence '{defence.label}' {problem}")


def _problems(defence: Purifier, images: Tensor) -> Iterator[str]:
    """Yield what is wrong with the results for ``(2, 3, H, W)``; later checks rest on earlier ones."""
    untouched = images.clone()
    with torch.no_grad():
        passes: list[Callable[[Tensor], Tensor]] = [defence.apply, defence.through]
        for run in passes:
            result = run(images)
            yield from _shape_problems(result, images)
            if not torch.equal(images, untouched):
                yield "changes the image it was handed; work on a copy"
            if not torch.equal(result, run(images)):
                yield _RESTLESS if defence.deterministic else _UNKEYED
            alone = torch.cat([run(image[None]) for image in images])
            if (distance := float((alone - result).abs().max())) > TOLERANCE:
                yield f"gives an image alone and in a batch results {distance:.2g} apart; treat each image by itself"
            if not bool(torch.isfinite(run(1.5 * images - 0.25)).all()):
                yield "gives values that are not finite for images beyond [0, 1], as an attack's may be; clamp them first"
        if defence.draw and torch.equal(defence.draw(images, 0), defence.draw(images, 1)):
            yield "is declared random, and gives the same under every draw; leave random=True out"
    yield from _gradient_problems(defence, images)


def _shape_problems(result: object, images: Tensor) -> Iterator[str]:
    if not isinstance(result, Tensor):
        yield f"gives a {type(result).__name__}; return a tensor (N, 3, H, W)"
        return
    if result.shape != images.shape:
        yield f"gives {tuple(result.shape)} for images {tuple(images.shape)}; keep the size, masks have it, too"
    if result.dtype != images.dtype or result.device != images.device:
        yield (
            f"gives {result.dtype} on {result.device} for {images.dtype} on {images.device}; end with .to(image)"
        )
    if not bool(torch.isfinite(result).all()):
        yield "gives values that are not finite"
    low, high = float(result.min()), float(result.max())
    if not 0 <= low <= high <= 1:
        yield f"gives values from {low:.3g} to {high:.3g}; end with .clamp(0, 1)"


def _gradient_problems(defence: Purifier, images: Tensor) -> Iterator[str]:
    leaf = images.clone().requires_grad_()
    result = defence.through(leaf)
    slope = None
    if result.requires_grad:
        (slope,) = torch.autograd.grad(result.square().sum(), leaf, allow_unused=True)
    if slope is None or not bool((slope != 0).any()):
        yield (
            'has no gradient at the image (it is detached, or runs through no_grad, numpy or rounding); say gradient="bpda" '
            "to let it count as the identity"
        )
    elif not bool(torch.isfinite(slope).all()):
        yield "has a gradient that is not finite"


_RESTLESS = "gives another result at every call; say random=True and draw from the generators it is handed, one for each image"
_UNKEYED = "draws from elsewhere than the generators it is handed: the same ones gave another result"
