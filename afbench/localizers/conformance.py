"""Whether a localizer can be attacked: the promises every attack and every score rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from afbench.core import Localizer
from afbench.crash import crash_line

from .checkpoint import state_sha256
from .own import wrong_description

SIZES = ((64, 64), (64, 96), (75, 53))
"""Square, wide, and tall with odd sides: photographs have any size."""
TOLERANCE = 1e-3
"""Of logits in float32, relative to their largest value, between a batch and its images alone."""


@dataclass(frozen=True)
class Finding:
    """One promise: its name, whether it is kept, and what was seen."""

    name: str
    passed: bool
    detail: str


def check_localizer(
    localizer: Localizer, *, device: str = "cpu", sizes: tuple[tuple[int, int], ...] = SIZES
) -> Iterator[Finding]:
    """Try a localizer on random images of a few sizes ``(height, width)``.

    Yields:
        One finding per promise, as soon as it is tried; where that raises an error, the promise is broken and its
        detail is the error.
    """
    images = [
        torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)).to(device) for size in sizes
    ]
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "names itself": lambda: _describes(localizer),
        "logits at the image's size": lambda: _shapes(localizer.logits, images),
        "probability at the image's size": lambda: _shapes(localizer.probability, images),
        "probability in [0, 1]": lambda: _range(localizer, images[0]),
        "evaluation mode": lambda: _evaluates(localizer, images[0]),
        "parameters frozen": lambda: _frozen(localizer),
        "gradient at the image": lambda: _gradient(localizer, images[0]),
        "images independent of their batch": lambda: _independent(localizer, images[0]),
        "a forward changes nothing": lambda: _unchanged(localizer, images[0]),
        "logits are no probabilities": lambda: _logits(localizer, images),
        "gradient at every border": lambda: _borders(localizer, images),
    }
    for name, check in checks.items():
        yield _tried(name, check)


def _tried(name: str, check: Callable[[], tuple[bool, str]]) -> Finding:
    try:
        passed, detail = check()
    except (Exception, SystemExit) as error:  # anything may happen in code that is not ours
        passed, detail = False, crash_line(error)
    return Finding(name, passed, detail)


def _describes(localizer: Localizer) -> tuple[bool, str]:
    wrong = wrong_description(localizer)
    told = f"{localizer.name}, threshold {localizer.threshold}, weights {str(localizer.weights_sha256)[:12]}"
    return not wrong, wrong or told


def _shapes(call: Callable[[Tensor], Tensor], images: list[Tensor]) -> tuple[bool, str]:
    told = []
    good = True
    for image in images:
        with torch.no_grad():
            out = call(image)
        expected = (len(image), 1, *image.shape[-2:])
        good &= tuple(out.shape) == expected and bool(torch.isfinite(out).all())
        told.append(f"{tuple(image.shape)} -> {tuple(out.shape)}")
    return good, "; ".join(told)


def _range(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    with torch.no_grad():
        probability = localizer.probability(image)
    low, high = float(probability.min()), float(probability.max())
    return 0 <= low <= high <= 1, f"from {low:.3g} to {high:.3g}"


def _logits(localizer: Localizer, images: list[Tensor]) -> tuple[bool, str]:
    with torch.no_grad():
        logits = torch.cat([localizer.logits(image).flatten() for image in images])
    low, high = float(logits.min()), float(logits.max())
    if 0 <= low < high <= 1:
        return False, f"all lie from {low:.3g} to {high:.3g}; return the values before the sigmoid"
    return True, f"from {low:.3g} to {high:.3g}"


def _evaluates(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    network = _network(localizer)
    training = (
        [name or "the network" for name, one in network.named_modules() if one.training] if network else []
    )
    if training:
        return False, f"{training[0]} is in training mode; call .eval()"
    with torch.no_grad():
        same = torch.equal(localizer.logits(image), localizer.logits(image))
    return same, "twice the same" if same else "two passes differ: dropout or another random draw is on"


def _frozen(localizer: Localizer) -> tuple[bool, str]:
    network = _network(localizer)
    if network is None:
        return True, "not checked: no attribute 'network'"
    free = [name for name, one in network.named_parameters() if one.requires_grad]
    return (
        not free,
        f"{len(free)} parameters require a gradient; call .requires_grad_(False)" if free else "all",
    )


def _gradient(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    leaf = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(localizer.logits(leaf).sum(), leaf)
    share = float((slope != 0).any(dim=1).float().mean())
    return bool(torch.isfinite(slope).all()) and share > 0, f"{100 * share:.0f} % of pixels have one"


def _borders(localizer: Localizer, images: list[Tensor]) -> tuple[bool, str]:
    """A network that crops, and fills up its output, never reads a border: no attack can use it, nothing there is found."""
    for image in images:
        leaf = image.clone().requires_grad_()
        (slope,) = torch.autograd.grad(localizer.logits(leaf).sum(), leaf)
        read = (slope != 0).flatten(0, 1).any(dim=0)
        lines = {"top": read[0], "bottom": read[-1], "left": read[:, 0], "right": read[:, -1]}
        unread = [side for side, line in lines.items() if not bool(line.any())]
        if unread:
            height, width = read.shape
            return (
                False,
                f"the {unread[0]} line of an image of {height}x{width} has none; resize or pad, do not crop",
            )
    return True, f"at {', '.join('{}x{}'.format(*image.shape[-2:]) for image in images)}"


def _independent(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    with torch.no_grad():
        together = localizer.logits(image)
        alone = torch.cat([localizer.logits(one[None]) for one in image])
    apart = float((together - alone).abs().max() / together.abs().max().clamp(min=1e-12))
    return apart <= TOLERANCE, f"differ by {apart:.1e} of the largest logit"


def _unchanged(localizer: Localizer, image: Tensor) -> tuple[bool, str]:
    network = _network(localizer)
    if network is None:
        return True, "not checked: no attribute 'network'"
    before = state_sha256(network)
    localizer.logits(image.clone().requires_grad_())
    return before == state_sha256(network), "parameters and buffers compared"


def _network(localizer: Localizer) -> nn.Module | None:
    network = getattr(localizer, "network", None)
    return network if isinstance(network, nn.Module) else None
