"""Attack one batch of equal-sized images with every setting of one sharing group.

The only module that imports ``attacks``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from afbench.core import AfbenchError, Localizer, Setting
from afbench.losses import binary_cross_entropy, forged_excess

from .measure import require_map
from .meter import Meter

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
class Batch:
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


def images_per_launch(settings: Sequence[Setting], batch_size: int) -> int:
    """How many images a group takes at once, so that a launch holds about ``batch_size``."""
    widest = max(len(runs) for runs in _by_params(settings))
    return max(1, batch_size // (1 if settings[0].phi is None else widest))


def attack_batch(
    localizer: Localizer,
    batch: Batch,
    settings: Sequence[Setting],
    *,
    seed: int,
    batch_size: int,
    meter: Meter,
) -> Iterator[Attacked]:
    """Yield the result of every setting of one group, sharing what can be shared.

    The sign group shares the gradient at the clean image; all phi of an attack are one batch; C&W step counts
    are snapshots of one run. Each equals the setting run alone (bitwise in float64).
    """
    clean: tuple[Tensor, Tensor] | None = None
    for runs in _by_params(settings):
        name = runs[0].attack
        if name in ("fgsm", "bim", "mifgsm") and clean is None:
            gradient = attacks.input_gradient(
                meter.watch(_loss(localizer, batch.mask), len(batch.image)), batch.image
            )
            clean = gradient, _zero_pixels(meter, batch)
        if name == "cw":
            yield from _cw(localizer, batch, runs, meter)
        else:
            at_once = max(1, batch_size // len(batch.image))
            for first in range(0, len(runs), at_once):
                some = runs[first : first + at_once]
                yield from _swept(localizer, batch, some, clean, seed, batch_size, meter)


def _by_params(settings: Sequence[Setting]) -> list[list[Setting]]:
    """Settings that differ in phi or steps alone, together."""
    found: dict[str, list[Setting]] = {}
    for setting in settings:
        found.setdefault(f"{setting.attack} {sorted(setting.params.items())}", []).append(setting)
    return list(found.values())


def _loss(localizer: Localizer, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of k N images laid out as ``image.repeat(k, 1, 1, 1)`` for N masks."""

    def loss(image: Tensor) -> Tensor:
        logits = require_map(localizer.logits(image), image, "the logits")
        return binary_cross_entropy(logits, mask.repeat(len(image) // len(mask), 1, 1, 1))

    return loss


def _swept(
    localizer: Localizer,
    batch: Batch,
    runs: list[Setting],
    clean: tuple[Tensor, Tensor] | None,
    seed: int,
    batch_size: int,
    meter: Meter,
) -> Iterator[Attacked]:
    """All phi of one attack as one batch, phi-major."""
    count, first = len(runs), runs[0]
    image = batch.image.repeat(count, 1, 1, 1)
    levels = [float(setting.phi) for setting in runs if setting.phi is not None]
    phi = torch.tensor(levels, dtype=torch.float64).repeat_interleave(len(batch.image))
    phi = phi.to(dtype=image.dtype, device=image.device).view(-1, 1, 1, 1)
    params = first.params
    keys = torch.tensor(
        [_key(seed, sample_id, setting) for setting in runs for sample_id in batch.sample_ids],
        device=image.device,
    )
    shape = (3, image.shape[2], image.shape[3])
    if first.attack == "noise":
        out = attacks.noise(image, signs=attacks.signs(keys, shape, 0), phi=phi)
        zero_pixels = None  # no gradient was taken
    elif first.attack == "fgsm":
        assert clean is not None
        out = attacks.fgsm(_never, image, phi=phi, gradient=clean[0].repeat(count, 1, 1, 1))
        zero_pixels = clean[1].repeat(count)
    else:
        loss = meter.watch(_loss(localizer, batch.mask), len(image))
        alpha = phi * float(params["alpha_over_phi"])
        shared = None if clean is None else clean[0].repeat(count, 1, 1, 1)
        if first.attack == "bim":
            out = attacks.bim(loss, image, phi=phi, alpha=alpha, steps=first.steps, gradient=shared)
        elif first.attack == "mifgsm":
            out = attacks.mifgsm(
                loss, image, phi=phi, alpha=alpha, steps=first.steps, mu=float(params["mu"]), gradient=shared
            )
        elif first.attack == "pgd":
            start = attacks.uniform(keys, shape, 0)
            out = attacks.pgd(loss, image, start=start, phi=phi, alpha=alpha, steps=first.steps)
        else:
            neighbours = int(params["neighbours"])
            out = attacks.pgn(
                loss,
                image,
                noise=lambda step: torch.stack(
                    [attacks.uniform(keys, shape, step * neighbours + one) for one in range(neighbours)]
                ),
                phi=phi,
                alpha=alpha,
                steps=first.steps,
                zeta=float(params["zeta"]),
                delta=float(params["delta"]),
                mu=float(params["mu"]),
                chunk=max(1, batch_size // len(image)),
            )
        zero_pixels = clean[1].repeat(count) if shared is not None and clean else _zero_pixels(meter, batch)
    for position, setting in enumerate(runs):
        part = slice(position * len(batch.image), (position + 1) * len(batch.image))
        yield Attacked(setting, out[part], None if zero_pixels is None else zero_pixels[part])


def _cw(localizer: Localizer, batch: Batch, runs: list[Setting], meter: Meter) -> Iterator[Attacked]:
    ordered = sorted(runs, key=lambda setting: setting.steps)
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


def _never(image: Tensor) -> Tensor:
    raise AssertionError("fgsm was handed its gradient")


def _zero_pixels(meter: Meter, batch: Batch) -> Tensor:
    if meter.zero_pixels is None:
        return torch.zeros(len(batch.image), dtype=torch.int64)
    return meter.zero_pixels


def _key(seed: int, sample_id: str, setting: Setting) -> int:
    """64 bits that name the random stream of one sample under one setting, whatever the batch or the order."""
    text = "\0".join(("afbench-1", str(seed), sample_id, setting.attack, setting.label))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
