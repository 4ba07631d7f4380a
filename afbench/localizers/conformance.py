"""Check whether a localizer keeps the promises that every attack and every score needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from afbench.argument_types import checks_arguments
from afbench.core import Localizer
from afbench.crash import crash_line
from afbench.safe_convolutions import full_precision

from .checkpoint_files import state_sha256
from .custom import description_problem

SIZES = ((64, 64), (64, 96), (75, 53))
"""Square, wide, and tall with odd sides: photographs have any size."""
LARGE_SIZES = ((1056, 48), (48, 1056))
"""Thin, so that they cost little; longer than the 1024 pixels that some networks cut images to."""
_LAST_LINES = 32
"""Lines at the end of a large image that must matter; several, because a resize without antialiasing skips some."""
TOLERANCE = 1e-3
"""Allowed difference of float32 logits between a batch and its single images, relative to the largest logit."""


@dataclass(frozen=True)
class Finding:
    """One promise: its name, whether the localizer keeps it, and what was measured."""

    name: str
    passed: bool
    detail: str


@checks_arguments
def check_localizer(
    localizer: Localizer,
    *,
    device: str = "cpu",
    sizes: tuple[tuple[int, int], ...] = SIZES,
    large_sizes: tuple[tuple[int, int], ...] = LARGE_SIZES,
) -> Iterator[Finding]:
    """Try a localizer on random images of a few sizes ``(height, width)``, of ``large_sizes`` by one pass forward.

    Yields:
        One finding for each promise, as soon as it is tried. If that raises an error, the promise is broken, and the
        error is the detail.
    """
    images = [_random_images(2, size, device) for size in sizes]
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "names itself": lambda: _describes(localizer),
        "logits at the image's size": lambda: _shapes(localizer.logits, images),
        "probability at the image's size": lambda: _shapes(localizer.probability, images),
        "probability in [0, 1]": lambda: _range(localizer, images[0]),
        "evaluation mode": lambda: _evaluates(localizer),
        "parameters frozen": lambda: _frozen(localizer),
        "gradient at the image": lambda: _gradient(localizer, images[0]),
        "images independent of their batch": lambda: _independent(localizer, images[0]),
        "a forward changes nothing": lambda: _unchanged(localizer, images[0]),
        "logits are no probabilities": lambda: _logits(localizer, images),
        "gradient at every border": lambda: _borders(localizer, images),
        "the same at every call": lambda: _repeats(localizer, images[0]),
        "no part of a large image hidden": lambda: _reads_all(localizer, large_sizes, device),
    }
    for name, check in checks.items():
        with full_precision(localizer):
            finding = _run_check(name, check)
        yield finding


def _random_images(batch: int, size: tuple[int, int], device: str) -> Tensor:
    images = torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(0))
    images[1:] /= 4  # darker, so that a statistic of the whole batch shows
    return images.to(device)


def _run_check(name: str, check: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        passed, detail = check()
    except (Exception, SystemExit) as error:  # anything may happen in code that is not ours
        passed, detail = False, crash_line(error)
    return Finding(name, passed, detail)


def _describes(localizer: Localizer) -> tuple[bool, str]:
    problem = description_problem(localizer)
    description = (
        f"{localizer.name}, threshold {localizer.threshold}, weights {str(localizer.weights_sha256)[:12]}"
    )
    return not problem, problem or description


def _shapes(call: Callable[[Tensor], Tensor], images: list[Tensor]) -> tuple[bool, str]:
    shapes = []
    passed = True
    for image in images:
        with torch.no_grad():
            output = call(image)
        expected = (len(image), 1, *image.shape[-2:])
        passed &= tuple(output.shape) == expected and bool(torch.isfinite(output).all())
        shapes.append(f"{tuple(image.shape)} -> {tuple(output.shape)}")
    return passed, "; ".join(shapes)


def _range(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    with torch.no_grad():
        probability = localizer.probability(image)
    low, high = float(probability.min()), float(probability.max())
    return 0 <= low <= high <= 1, f"from {low:.3g} to {high:.3g}"


def _logits(localizer: Localizer, images: list[Tensor]) -> tuple[bool, str]:
    with torch.no_grad():
        logits = torch.cat([localizer.logits(image).flatten() for image in images])
    low, high = float(logits.min()), float(logits.max())
    # probabilities returned as logits would pass every other check
    if 0 <= low < high <= 1:
        return False, f"all lie from {low:.3g} to {high:.3g}; return the values before the sigmoid"
    return True, f"from {low:.3g} to {high:.3g}"


def _evaluates(localizer: Localizer) -> tuple[bool, str]:
    network = _network(localizer)
    if network is None:
        return True, "not checked: no attribute 'network'"
    training = [name or "the network" for name, module in network.named_modules() if module.training]
    return not training, f"{training[0]} is in training mode; call .eval()" if training else "all modules"


def _repeats(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    with torch.no_grad():
        is_equal = torch.equal(localizer.logits(image), localizer.logits(image))
    if is_equal:
        return True, "twice the same"
    return False, "two passes differ: dropout, layers made anew in forward, or another random draw is on"


def _reads_all(localizer: Localizer, sizes: tuple[tuple[int, int], ...], device: str) -> tuple[bool, str]:
    """Check that the end of a large image matters, unless the localizer itself counts it as unread."""
    for size in sizes:
        image = _random_images(1, size, device)
        changed = image.clone()
        end = (
            (..., slice(-_LAST_LINES, None), slice(None))
            if size[0] > size[1]
            else (..., slice(-_LAST_LINES, None))
        )
        changed[end] = 1 - changed[end]
        with torch.no_grad():
            is_read = not torch.equal(localizer.logits(image), localizer.logits(changed))
        declared = getattr(localizer, "unread_pixels", None)
        if not is_read and not (declared and declared(*size)):
            return False, (
                f"the last {_LAST_LINES} lines of an image of {size[0]}x{size[1]} change nothing; do not cut, or count them "
                "in a method unread_pixels(height, width)"
            )
    return True, f"tried {', '.join('{}x{}'.format(*size) for size in sizes) or 'none'}"


def _frozen(localizer: Localizer) -> tuple[bool, str]:
    network = _network(localizer)
    if network is None:
        return True, "not checked: no attribute 'network'"
    trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    return (
        not trainable,
        f"{len(trainable)} parameters require a gradient; call .requires_grad_(False)"
        if trainable
        else "all",
    )


def _gradient(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    slope = _slope(localizer, image)
    if slope is None:
        return False, _DETACHED
    share = float((slope != 0).any(dim=1).float().mean())
    passed = bool(torch.isfinite(slope).all()) and share > 0
    return passed, f"{100 * share:.0f} % of pixels have one" if share else _DETACHED


_DETACHED = (
    "no pixel has one: the image is detached in the network, or runs through no_grad, numpy or rounding"
)


def _slope(localizer: Localizer, image: Tensor) -> Tensor | None:
    """Return the gradient of the summed logits at an image; None where they do not depend on it."""
    leaf = image.clone().requires_grad_()
    logits = localizer.logits(leaf)
    if not logits.requires_grad:
        return None
    return torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0]


def _borders(localizer: Localizer, images: list[Tensor]) -> tuple[bool, str]:
    """Check that every border gets a gradient: a network that crops never reads it, so attacks and masks miss that part."""
    for image in images:
        slope = _slope(localizer, image)
        if slope is None:
            return False, _DETACHED
        gets_gradient = (slope != 0).flatten(0, 1).any(dim=0)
        lines = {
            "top": gets_gradient[0],
            "bottom": gets_gradient[-1],
            "left": gets_gradient[:, 0],
            "right": gets_gradient[:, -1],
        }
        blind_sides = [side for side, line in lines.items() if not bool(line.any())]
        if blind_sides:
            height, width = gets_gradient.shape
            return (
                False,
                f"the {blind_sides[0]} line of an image of {height}x{width} has none; resize or pad, do not crop",
            )
    return True, f"at {', '.join('{}x{}'.format(*image.shape[-2:]) for image in images)}"


def _independent(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    with torch.no_grad():
        batch_logits = localizer.logits(image)
        single_logits = torch.cat([localizer.logits(single_image[None]) for single_image in image])
    difference = float((batch_logits - single_logits).abs().max() / batch_logits.abs().max().clamp(min=1e-12))
    return difference <= TOLERANCE, f"differ by {difference:.1e} of the largest logit"


def _unchanged(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    network = _network(localizer)
    if network is None:
        return True, "not checked: no attribute 'network'"
    previous_sha256 = state_sha256(network)
    localizer.logits(image.clone().requires_grad_())
    return previous_sha256 == state_sha256(network), "parameters and buffers compared"


def _network(localizer: Localizer) -> nn.Module | None:
    network = getattr(localizer, "network", None)
    return network if isinstance(network, nn.Module) else None
