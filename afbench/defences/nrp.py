"""A purifier trained in feature space, without labels and without an attack on any particular network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from afbench.core import UsageError
from afbench.localizers.checkpoint_files import fill

from .ansm.checkpoint import FrozenAnsm
from .ansm.encoders import SMALL, TimmEncoder
from .ansm.module import Ansm
from .ansm.restoration_losses import pixel_loss
from .ansm.settings import DEPTHS
from .setting_checks import require_choice, require_limits
from .training.pairs import Batch
from .training.weights_file import best_of, read_checkpoint

FORMAT = "afbench-nrp-1"
OF_LOCALIZER = "localizer"
PERTURBATIONS = ("feature", "benchmark")
Features = Callable[[Tensor], Sequence[Tensor]]
"""Images ``(N, 3, H, W)`` to feature maps of a frozen network."""


@dataclass(frozen=True, kw_only=True)
class NrpSettings:
    """How a purifier is trained.

    Attributes:
        features: whose features are to come out alike: ``localizer``, or a network of timm.
        feature_weights: of a timm network: ``imagenet``, ``none`` or a path.
        depth: third of the localizer whose features count.
        perturbation: ``feature`` looks for images whose features are far off, from originals alone; ``benchmark``
            takes the benchmark's attacked images.
        phi: L-inf radius of ``feature``, in units of the [0, 1] range; each image draws its own up to this one.
        steps: of ``feature``.
        pixels: weight of the pixels' distance beside the features'.
    """

    features: str = OF_LOCALIZER
    feature_weights: str = "imagenet"
    depth: str = "middle"
    perturbation: str = "feature"
    phi: float = 4 / 255
    steps: int = 4
    pixels: float = 1.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def check_nrp(settings: NrpSettings) -> NrpSettings:
    """Refuse a value that cannot be.

    Raises:
        UsageError: naming it.
    """
    require_choice(settings, "depth", DEPTHS)
    require_choice(settings, "perturbation", PERTURBATIONS)
    limits = {
        "phi": (0 < settings.phi <= 0.1, "a number above 0, up to 0.1"),
        "steps": (settings.steps >= 1, "1 step or more"),
        "pixels": (settings.pixels >= 0, "a number from 0"),
    }
    require_limits(settings, limits)
    return settings


def feature_distance(maps: Sequence[Tensor], target_maps: Sequence[Tensor]) -> Tensor:
    """Compute the mean absolute difference of feature maps ``(N, C, H, W)``, relative to the targets' mean size: ``(N,)``.

    Source: the feature loss of Naseer et al. 2020, arXiv 2006.04924.
    Differs: relative, so that layers of large values do not outweigh the others; the mean over layers.
    """
    axes = (1, 2, 3)
    terms = [
        (feature_map - target).abs().mean(dim=axes) / (target.abs().mean(dim=axes) + 1e-6)
        for feature_map, target in zip(maps, target_maps, strict=True)
    ]
    return torch.stack(terms).mean(dim=0)


def push_features(
    features: Features, image: Tensor, *, phi: Tensor, steps: int, generator: torch.Generator
) -> Tensor:
    """Move images so that their features lie far from where they were: from random noise, by ``steps`` signed steps.

    Args:
        features: of a frozen network.
        image: ``(N, 3, H, W)`` in [0, 1].
        phi: ``(N, 1, 1, 1)``, L-inf radius.
        steps: of size 2 phi / steps each.
        generator: of the starting point, on the CPU.
    Returns:
        The same shape and range, rounded to 8 bits.
    Source: the self-supervised perturbation of Naseer et al. 2020, arXiv 2006.04924; ours is part of the training.
    """
    with torch.no_grad():
        targets = [feature_map.detach() for feature_map in features(image)]
    start = 2 * torch.rand(image.shape, generator=generator).to(image) - 1
    moved = (image + phi * start).clamp(0, 1)
    for _ in range(steps):
        leaf = moved.detach().requires_grad_()
        with torch.enable_grad():  # validation asks for it too
            (slope,) = torch.autograd.grad(feature_distance(features(leaf), targets).sum(), leaf)
        stepped = moved + 2 * phi / steps * slope.sign()
        moved = torch.maximum(torch.minimum(stepped, image + phi), image - phi).clamp(0, 1)
    return (moved.detach() * 255).round() / 255


def nrp_loss(
    purify: Callable[[Tensor], Tensor],
    features: Features,
    batch: Batch,
    settings: NrpSettings,
    generator: torch.Generator,
) -> Tensor:
    """Compute the loss of each pair, ``(N,)``: features and pixels of the purified image, against the original's.

    Source: Naseer et al. 2020, arXiv 2006.04924.
    Differs: no critic, so no adversarial term; half of each batch's loss is of originals, which a localizer sees most
    often; perturbations of many sizes up to phi instead of one; all are rounded to 8 bits, as what is stored.
    """
    original = batch.original
    attacked = batch.attacked
    if settings.perturbation == "feature":
        sizes = settings.phi * torch.rand((len(original), 1, 1, 1), generator=generator).to(original)
        attacked = push_features(features, original, phi=sizes, steps=settings.steps, generator=generator)
    with torch.no_grad():
        targets = [feature_map.detach() for feature_map in features(original)]
    purified = purify(torch.cat([attacked, original]))  # one pass: batch norm sees what it will see in use
    halves = zip(*(feature_map.chunk(2) for feature_map in features(purified)), strict=True)
    terms = [
        feature_distance(maps, targets) + settings.pixels * pixel_loss(images, original)
        for maps, images in zip(halves, purified.chunk(2), strict=True)
    ]
    return (terms[0] + terms[1]) / 2


def timm_features(settings: NrpSettings, device: torch.device) -> Features:
    """Return the maps at 1/4 and 1/8 of a frozen network of timm, which knows nothing of any localizer.

    Raises:
        UsageError: if it is unknown, or its weights cannot be had.
    """
    network = TimmEncoder(settings.features, settings.feature_weights).eval().requires_grad_(False).to(device)
    return lambda image: network(image)[1:3]


def load_nrp(checkpoint: Path, *, localizer: str, device: str = "cpu") -> FrozenAnsm:
    """Load a trained purifier for a localizer.

    Args:
        checkpoint: a safetensors file, or the folder of a training (its best one).
        localizer: whom it stands before; one trained on a localizer's features belongs to that one.
        device: where it lives.
    Returns:
        A frozen module: ``(N, 3, H, W)`` in [0, 1] to the same shape and range.
    Raises:
        UsageError: if there is none, it is damaged, or of another localizer or network.
    """
    path = best_of(checkpoint)
    module = Ansm(SMALL)
    state, card = read_checkpoint(path, FORMAT, "NRP")
    fill(module, state, str(path))
    try:
        owner = str(card["localizer"]["name"])
        trained_on = [str(config) for config in card["data"]["configs"]]
        params = {name: str(card["settings"][name]) for name in ("features", "depth", "perturbation")}
    except (KeyError, TypeError):
        raise UsageError(f"NRP checkpoint '{path}' is damaged: its header is not complete") from None
    if params["features"] == OF_LOCALIZER and owner != localizer:
        raise UsageError(
            f"NRP checkpoint '{path}' was trained on features of localizer '{owner}', not of '{localizer}'; give that "
            "one's, or one trained with --features of a timm network"
        )
    # what was trained on originals alone has seen no attack
    network = FrozenAnsm(module, card, params, trained_on if params["perturbation"] == "benchmark" else ())
    return network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
