"""Attack one batch of equal-sized images with every setting of one sharing group.

The only module that imports ``attacks``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from afbench.core import AfbenchError, Localizer, Setting
from afbench.losses import ATTACK_LOSSES, forged_excess, pixel_cross_entropy
from afbench.plan import CLASSES, loss_and_target, require_catalogue

from .measure import require_map
from .meter import Meter
from .torchattacks_adapter import TRANSFORMED, attack_one

try:
    import attacks
except ImportError as error:
    raise AfbenchError(
        f"the package 'attacks' of afbench cannot be imported ({error}); reinstall afbench"
    ) from None
if not hasattr(attacks, "mifgsm"):
    raise AfbenchError(
        f"another package named attacks ({attacks.__file__}) hides afbench's; remove it from the import path"
    )

SEED_RULE = "key = first 8 bytes of sha256('afbench-1', seed, sample_id, attack, setting); attacks.draws"


@dataclass(frozen=True)
class AttackBatch:
    """Equal-sized images ``(N, 3, H, W)`` in [0, 1] with masks ``(N, 1, H, W)`` of 0 and 1."""

    sample_ids: Sequence[str]
    image: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Attacked:
    """One setting's result: float ``(N, 3, H, W)``, and pixels ``(N,)`` whose first gradient was zero, if one was
    taken."""

    setting: Setting
    image: Tensor
    zero_pixels: Tensor | None


@dataclass(frozen=True)
class _Clean:
    """The gradient at N original images, and pixels ``(N,)`` where it was zero."""

    gradient: Tensor
    zero_pixels: Tensor


def images_at_once(settings: Sequence[Setting], batch_size: int) -> int:
    """Return how many images a group takes at once, so that a batch of all their phi holds about ``batch_size``."""
    widest = max(len(variants) for variants in _by_params(settings))
    return max(1, batch_size // (1 if settings[0].phi is None else widest))


def attack_batch(
    localizer: Localizer,
    batch: AttackBatch,
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int,
    meter: Meter,
) -> Iterator[Attacked]:
    """Yield the result of every setting of one group, sharing what can be shared.

    The sign group shares the gradient at the clean image; all phi of an attack are one batch; C&W step counts
    are snapshots of one run. Each equals the setting run alone (bitwise in float64). Attacks of the torchattacks catalogue
    take one image and one phi at a time.

    Raises:
        UsageError: if the torchattacks library is asked for and not installed.
    """
    require_catalogue(settings)
    clean: dict[tuple[str, str], _Clean] = {}
    for variants in _by_params(settings):
        name, raised = variants[0].attack, loss_and_target(variants[0])
        # only these begin with the gradient of this loss at the original
        if name in ("fgsm", "bim", "mifgsm") and raised not in clean:
            loss = meter.watch(_loss(localizer, batch.mask, *raised), len(batch.image))
            gradient = attacks.input_gradient(loss, batch.image)
            clean[raised] = _Clean(gradient, _zero_pixels(meter, batch))
        if name == "cw":
            yield from _cw(localizer, batch, variants, meter)
        elif name in CLASSES:
            for setting in variants:
                yield _catalogue(localizer, batch, setting, seed, meter)
        else:
            at_once = max(1, batch_size // len(batch.image))
            for first in range(0, len(variants), at_once):
                part = variants[first : first + at_once]
                yield from _swept(localizer, batch, part, clean.get(raised), seed, batch_size, meter)


def _by_params(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Group the settings that differ in phi or steps alone."""
    groups: dict[str, list[Setting]] = {}
    for setting in settings:
        groups.setdefault(f"{setting.attack} {sorted(setting.params.items())}", []).append(setting)
    return list(groups.values())


def _pixel_losses(localizer: Localizer, mask: Tensor) -> attacks.PixelLossFn:
    """Make the loss of every pixel: cross-entropy of k N images, laid out as ``image.repeat(k, 1, 1, 1)``, for N masks."""

    def losses(image: Tensor) -> Tensor:
        logits = require_map(localizer.logits(image), image, "the logits")
        return pixel_cross_entropy(logits, mask.repeat(len(image) // len(mask), 1, 1, 1))

    return losses


def _loss(localizer: Localizer, mask: Tensor, name: str, target: str) -> attacks.LossFn:
    """Make what is raised of every image: a loss with its mask, for target ``empty`` minus that with an empty mask, for
    ``hide`` both."""
    measure = ATTACK_LOSSES[name]
    # a pixel is right on its side of the localizer's threshold; the paper's cross-entropy knows no threshold
    offset = 0.0 if name == "bce" else _logit_threshold(localizer)

    def loss(image: Tensor) -> Tensor:
        logits = require_map(localizer.logits(image), image, "the logits")
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) - offset
        truth = mask.repeat(len(image) // len(mask), 1, 1, 1)
        if target == "mask":
            return measure(logits, truth)
        towards_empty = -measure(logits, torch.zeros_like(truth))
        return towards_empty if target == "empty" else measure(logits, truth) + towards_empty

    return loss


def _logit_threshold(localizer: Localizer) -> float:
    threshold = float(getattr(localizer, "logit_threshold", localizer.threshold))
    return math.log(threshold / (1 - threshold))


@dataclass(frozen=True)
class _PhiBatch:
    """Several phi of one attack on N images as one batch of k N, phi-major; ``clean`` is laid out alike."""

    setting: Setting
    image: Tensor
    phi: Tensor
    keys: Tensor
    loss: attacks.LossFn
    losses: attacks.PixelLossFn
    clean: Tensor | None
    chunk: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.image.shape[2], self.image.shape[3]

    def uniform(self, shape: tuple[int, int, int], draw: int) -> Tensor:
        return attacks.uniform(self.keys, shape, draw)

    def stepped(self) -> dict[str, Any]:
        """Return the arguments of every attack that goes in steps."""
        alpha = self.phi * float(self.setting.params["alpha_over_phi"])
        return {"phi": self.phi, "alpha": alpha, "steps": self.setting.steps}

    def started(self) -> dict[str, Any]:
        """Return the arguments of an attack that goes in steps from a random start."""
        return {"start": self.uniform(self.shape, 0), **self.stepped()}


def _swept(
    localizer: Localizer,
    batch: AttackBatch,
    variants: list[Setting],
    clean: _Clean | None,
    seed: int,
    batch_size: int,
    meter: Meter,
) -> Iterator[Attacked]:
    """Run all phi of one attack as one batch, phi-major."""
    count, first = len(variants), variants[0]
    image = batch.image.repeat(count, 1, 1, 1)
    levels = [float(setting.phi) for setting in variants if setting.phi is not None]
    phi = torch.tensor(levels, dtype=torch.float64).repeat_interleave(len(batch.image))
    phi_batch = _PhiBatch(
        first,
        image,
        phi.to(dtype=image.dtype, device=image.device).view(-1, 1, 1, 1),
        torch.tensor(
            [_key(seed, sample_id, setting) for setting in variants for sample_id in batch.sample_ids],
            device=image.device,
        ),
        meter.watch(_loss(localizer, batch.mask, *loss_and_target(first)), len(image)),
        meter.watch(_pixel_losses(localizer, batch.mask), len(image)),
        clean.gradient.repeat(count, 1, 1, 1) if clean else None,
        max(1, batch_size // len(image)),
    )
    out = _ATTACKS[first.attack](phi_batch)
    if first.attack in ("noise", "square"):
        zero_pixels = None  # no gradient was taken
    else:
        zero_pixels = clean.zero_pixels.repeat(count) if clean else _zero_pixels(meter, batch)
    for position, setting in enumerate(variants):
        part = slice(position * len(batch.image), (position + 1) * len(batch.image))
        yield Attacked(setting, out[part], None if zero_pixels is None else zero_pixels[part])


def _pgn(batch: _PhiBatch) -> Tensor:
    params = batch.setting.params
    count = int(params["neighbours"])
    return attacks.pgn(
        batch.loss,
        batch.image,
        noise=lambda step: torch.stack(
            [batch.uniform(batch.shape, step * count + neighbour) for neighbour in range(count)]
        ),
        zeta=float(params["zeta"]),
        delta=float(params["delta"]),
        mu=float(params["mu"]),
        chunk=batch.chunk,
        **batch.stepped(),
    )


def _square(batch: _PhiBatch) -> Tensor:
    return attacks.square(
        batch.loss,
        batch.image,
        stripes=attacks.signs(batch.keys, (3, 1, batch.image.shape[3]), 0),
        draws=lambda query: batch.uniform((5, 1, 1), query).flatten(1),
        phi=batch.phi,
        queries=int(batch.setting.params["queries"]),
        p_init=float(batch.setting.params["p_init"]),
    )


_ATTACKS: Mapping[str, Callable[[_PhiBatch], Tensor]] = {
    "noise": lambda batch: attacks.noise(
        batch.image, signs=attacks.signs(batch.keys, batch.shape, 0), phi=batch.phi
    ),
    "fgsm": lambda batch: attacks.fgsm(batch.loss, batch.image, phi=batch.phi, gradient=batch.clean),
    "bim": lambda batch: attacks.bim(batch.loss, batch.image, gradient=batch.clean, **batch.stepped()),
    "mifgsm": lambda batch: attacks.mifgsm(
        batch.loss, batch.image, mu=float(batch.setting.params["mu"]), gradient=batch.clean, **batch.stepped()
    ),
    "pgd": lambda batch: attacks.pgd(batch.loss, batch.image, **batch.started()),
    "segpgd": lambda batch: attacks.segpgd(batch.losses, batch.image, **batch.started()),
    "cospgd": lambda batch: attacks.cospgd(batch.losses, batch.image, **batch.started()),
    "apgd": lambda batch: attacks.apgd(batch.loss, batch.image, phi=batch.phi, steps=batch.setting.steps),
    "pgn": _pgn,
    "square": _square,
}


def _catalogue(
    localizer: Localizer, batch: AttackBatch, setting: Setting, seed: int, meter: Meter
) -> Attacked:
    """Run one setting of the torchattacks catalogue, image by image."""

    def logits(image: Tensor) -> Tensor:
        return require_map(localizer.logits(image), image, "the logits")

    images, zero_pixels = [], []
    for row, sample_id in enumerate(batch.sample_ids):
        # most of these attacks average their loss over the batch, so an image would depend on the others
        single = AttackBatch([sample_id], batch.image[row : row + 1], batch.mask[row : row + 1])
        images.append(
            attack_one(
                meter.watch(logits, 1),
                single.image,
                single.mask,
                setting,
                key=_key(seed, sample_id, setting),
                phi=float(setting.phi or 0),
            )
        )
        zero_pixels.append(_zero_pixels(meter, single))
    first_zero_pixels = None if setting.attack in TRANSFORMED else torch.cat(zero_pixels)
    return Attacked(setting, torch.cat(images), first_zero_pixels)


def _cw(
    localizer: Localizer, batch: AttackBatch, variants: list[Setting], meter: Meter
) -> Iterator[Attacked]:
    ordered = sorted(variants, key=lambda setting: setting.steps)
    params = ordered[0].params

    def objective(image: Tensor) -> Tensor:
        return forged_excess(
            require_map(localizer.logits(image), image, "the logits"),
            threshold=getattr(localizer, "logit_threshold", localizer.threshold),
            hinge=bool(params["hinge"]),
            objective=params["objective"],
        )

    snapshots = attacks.cw(
        meter.watch(objective, len(batch.image)),
        batch.image,
        steps=[setting.steps for setting in ordered],
        lr=float(params["lr"]),
        c=float(params["c"]),
        optimizer=params["optimizer"],
    )
    for setting, image in zip(ordered, snapshots, strict=True):
        yield Attacked(setting, image, _zero_pixels(meter, batch))


def _zero_pixels(meter: Meter, batch: AttackBatch) -> Tensor:
    if meter.zero_pixels is None:
        return torch.zeros(len(batch.image), dtype=torch.int64)
    return meter.zero_pixels


def _key(seed: int, sample_id: str, setting: Setting) -> int:
    """Hash 64 bits that name the random stream of one sample under one setting, whatever the batch or the order."""
    text = "\0".join(("afbench-1", str(seed), sample_id, setting.attack, setting.label))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
