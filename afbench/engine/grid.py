"""Attack one batch of equal-sized images with every setting of one sharing group.

The only module that imports ``attacks``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from afbench.core import AfbenchError, Localizer, Setting, UsageError
from afbench.images import quantise
from afbench.plans import (
    ATTACKS,
    BUILT_IN,
    CLASSES,
    loss_and_target,
    max_levels,
    naive_gradients,
    require_catalogue,
)
from afbench.plans.attacks import OBJECTIVE
from afbench.plans.ensemble import RUNS, STEPS
from afbench.safe_convolutions import safe_convolutions

from .measure import require_map
from .meter import Meter
from .objectives import ImageFn, excess, f1_left, image_loss, logit_scale, loss_and_f1, pixel_losses
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
    """One setting's result: float ``(N, 3, H, W)``; pixels ``(N,)`` whose first gradient was zero, if one was taken; and
    of an ensemble the number ``(N,)`` of the member that made each image."""

    setting: Setting
    image: Tensor
    zero_pixels: Tensor | None
    member: Tensor | None = None


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
    if unknown := [
        setting.attack for setting in settings if not setting.user_attack and setting.attack not in ATTACKS
    ]:
        raise UsageError(f"attack '{unknown[0]}' does not come with afbench")
    clean: dict[tuple[str, str], _Clean] = {}
    with safe_convolutions(localizer):
        for variants in _by_params(settings):
            name, raised = variants[0].attack, loss_and_target(variants[0])
            # only these begin with the gradient of this loss at the original
            if name in ("fgsm", "bim", "mifgsm") and raised not in clean:
                loss = meter.watch(image_loss(localizer, batch.mask, *raised), len(batch.image))
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


@dataclass(frozen=True, kw_only=True)
class _PhiBatch:
    """Several phi of one attack on N images as one batch of k N, phi-major; ``clean`` is laid out alike, ``mask`` has N."""

    localizer: Localizer
    setting: Setting
    image: Tensor
    mask: Tensor
    phi: Tensor
    max_levels: Tensor
    keys: Tensor
    clean: Tensor | None
    chunk: int
    meter: Meter
    region: Tensor | None

    @property
    def loss(self) -> attacks.LossFn:
        return self.limited(
            self.watched(image_loss(self.localizer, self.mask, *loss_and_target(self.setting)))
        )

    @property
    def losses(self) -> attacks.PixelLossFn:
        return self.limited(self.watched(pixel_losses(self.localizer, self.mask)))

    def limited(self, function: ImageFn) -> ImageFn:
        """Make a function see the original outside of the region, so that its gradient is 0 there."""
        if self.region is None:
            return function
        return lambda image: function(_keep_in(self.region, image, self.image))

    def watched(self, function: ImageFn) -> ImageFn:
        return self.meter.watch(function, len(self.image))

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.image.shape[2], self.image.shape[3]

    def uniform(self, shape: tuple[int, int, int], draw: int) -> Tensor:
        return attacks.uniform(self.keys, shape, draw)

    def stepped(self) -> dict[str, Any]:
        """Return the arguments of every attack that goes in steps."""
        alpha = self.phi * float(self.setting.params["alpha_over_phi"])
        return {"phi": self.phi, "alpha": alpha, "steps": self.setting.steps}


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
    region = _region(first, batch.mask, count)
    gradient = clean.gradient.repeat(count, 1, 1, 1) if clean else None
    phi_batch = _PhiBatch(
        localizer=localizer,
        setting=first,
        image=image,
        mask=batch.mask,
        phi=_per_row([float(setting.phi or 0) for setting in variants], batch.image).to(image.dtype),
        max_levels=_per_row([float(max_levels(setting.phi) or 0) for setting in variants], batch.image),
        keys=torch.tensor(
            [_key(seed, sample_id, setting) for setting in variants for sample_id in batch.sample_ids],
            device=image.device,
        ),
        clean=None if gradient is None else _keep_in(region, gradient, torch.zeros_like(gradient)),
        chunk=max(1, batch_size // len(image)),
        meter=meter,
        region=region,
    )
    meter.zero_pixels = None
    result = _own(phi_batch) if first.user_attack else _ATTACKS[first.attack](phi_batch)
    out, member = (result.image, result.member) if isinstance(result, attacks.Worst) else (result, None)
    # a random start lies outside of the region, too
    out = _keep_in(region, out, image)
    if naive_gradients(first) == 0:
        zero_pixels = None  # no gradient was taken
    else:
        zero_pixels = clean.zero_pixels.repeat(count) if clean else _zero_pixels(meter, batch)
    for position, setting in enumerate(variants):
        part = slice(position * len(batch.image), (position + 1) * len(batch.image))
        yield Attacked(
            setting,
            out[part],
            None if zero_pixels is None else zero_pixels[part],
            None if member is None else member[part],
        )


def _region(setting: Setting, mask: Tensor, count: int) -> Tensor | None:
    """Return where a setting may put noise, bool ``(count N, 1, H, W)``; None for everywhere."""
    region_name = setting.params.get("where")
    if region_name is None:
        return None
    forged = mask.repeat(count, 1, 1, 1) > 0
    return forged if region_name == "forged" else ~forged


def _keep_in(region: Tensor | None, values: Tensor, elsewhere: Tensor) -> Tensor:
    """Take ``values`` inside the region and ``elsewhere`` outside of it; ``values`` may be several batches in a row."""
    if region is None:
        return values
    batches = len(values) // len(elsewhere)
    return torch.where(region.repeat(batches, 1, 1, 1), values, elsewhere.repeat(batches, 1, 1, 1))


def _per_row(values: Sequence[float], image: Tensor) -> Tensor:
    """Lay out one number of each setting for N images of each: float64 ``(k N, 1, 1, 1)`` on their device."""
    rows = torch.tensor(values, dtype=torch.float64, device=image.device)
    return rows.repeat_interleave(len(image)).view(-1, 1, 1, 1)


def _by_signature(name: str, batch: _PhiBatch) -> Tensor:
    """Call an attack with what its parameters are named after; of those with a default only the first gradient is supplied."""
    function = getattr(attacks, name)
    supplied: dict[str, Callable[[], Any]] = {
        "loss": lambda: batch.loss,
        "losses": lambda: batch.losses,
        "image": lambda: batch.image,
        "phi": lambda: batch.phi,
        "alpha": lambda: batch.stepped()["alpha"],
        "steps": lambda: batch.setting.steps,
        "start": lambda: batch.uniform(batch.shape, 0),
        "gradient": lambda: batch.clean,
    }
    arguments = {}
    for parameter in signature(function).parameters.values():
        if parameter.name not in supplied:
            arguments[parameter.name] = batch.setting.params[parameter.name]
        elif parameter.default is parameter.empty or parameter.name == "gradient":
            arguments[parameter.name] = supplied[parameter.name]()
    attacked: Tensor = function(**arguments)
    return attacked


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


def _stored(attacked: Tensor, original: Tensor, max_levels: Tensor | None) -> Tensor:
    """Return images as they will read from the 8 bits that are stored of them."""
    levels = quantise(attacked, original, max_levels)
    return levels.permute(0, 3, 1, 2).to(attacked.dtype).div_(255.0)


def _strong(batch: _PhiBatch) -> attacks.Worst:
    start = batch.uniform(batch.shape, 0)

    @cache
    def scale() -> Tensor:
        return batch.watched(lambda image: logit_scale(batch.localizer, image))(batch.image)

    def scaled_loss(name: str) -> ImageFn:
        def loss(image: Tensor) -> Tensor:
            # the scale is a pass: the attack checks its image before the first one, or the check waits for the device
            return image_loss(batch.localizer, batch.mask, name, scale=scale())(image)

        return loss

    both = loss_and_f1(batch.localizer, batch.mask, RUNS[0].loss, scale)
    return attacks.strong(
        [
            attacks.EnsembleMember(
                batch.watched(scaled_loss(run.loss)),
                start if run.random_start else None,
            )
            for run in RUNS
        ],
        batch.image,
        score=batch.watched(f1_left(batch.localizer, batch.mask)),
        store=lambda image: _stored(image, batch.image, batch.max_levels),
        phi=batch.phi,
        steps=STEPS,
        loss_and_score=None if both is None else batch.meter.watch(both, len(batch.image)),
        lowest=0.0,
    )


def own_arguments(setting: Setting, uniform: Callable[[int], Tensor]) -> dict[str, Any]:
    """Return what a user's own attack takes by keyword besides phi; ``uniform`` gives the numbers of one draw."""
    arguments = {name: setting.params[name] for name in setting.user_attack.choices if name not in OBJECTIVE}
    return arguments | ({"uniform": uniform} if setting.user_attack.random else {})


def _own(batch: _PhiBatch) -> Tensor:
    """Call a user's own attack, and refuse what is no image in the ball: rounding would hide it."""
    attack = batch.setting.user_attack
    arguments = own_arguments(batch.setting, lambda draw: batch.uniform(batch.shape, draw))
    attacked = attack.function(batch.loss, batch.image, phi=batch.phi, **arguments)
    if not isinstance(attacked, Tensor) or attacked.shape != batch.image.shape:
        actual = tuple(attacked.shape) if isinstance(attacked, Tensor) else type(attacked).__name__
        raise UsageError(
            f"attack '{attack.name}' must give images {tuple(batch.image.shape)}; found {actual}; see `afbench check-attack`"
        )
    attacked = attacked.detach().to(batch.image)
    # a value that is not finite excludes its own sample later; it is no excess, and hides none of another's
    excess = float(torch.nan_to_num((attacked - batch.image).abs() - batch.phi, -1.0, -1.0, -1.0).amax())
    if excess > _OWN_EXCESS:
        raise UsageError(
            f"attack '{attack.name}' left the phi ball by {excess:.3g}; end with .clamp(image - phi, image + phi)"
        )
    return attacked.clamp(0, 1)


_OWN_EXCESS = 1e-6
"""What float32 may add to phi."""
_SPECIAL: Mapping[str, Callable[[_PhiBatch], Tensor | attacks.Worst]] = {
    "noise": lambda batch: attacks.noise(
        batch.image, signs=attacks.signs(batch.keys, batch.shape, 0), phi=batch.phi
    ),
    "pgn": _pgn,
    "square": _square,
    "strong": _strong,
}
"""Attacks that take more than a loss, an image, phi, alpha, steps, a start, the first gradient, and their own parameters."""
_ATTACKS: Mapping[str, Callable[[_PhiBatch], Tensor | attacks.Worst]] = {
    name: _SPECIAL.get(name, partial(_by_signature, name)) for name in BUILT_IN if name != "cw"
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

    lowered = excess(
        localizer,
        hinge=bool(params["hinge"]),
        objective=params["objective"],
        kappa=float(params.get("kappa", 0.0)),
    )
    objective = meter.watch(lowered, len(batch.image))
    common = {"lr": float(params["lr"]), "c": float(params["c"]), "optimizer": params["optimizer"]}
    snapshots: Iterator[Tensor]
    if "c_search" in params:
        # each step count finds weights of its own, so there is no common trajectory
        score = meter.watch(f1_left(localizer, batch.mask), len(batch.image))
        snapshots = (
            attacks.cw_search(
                objective,
                batch.image,
                steps=setting.steps,
                rounds=int(params["c_search"]),
                score=score,
                store=lambda image: _stored(image, batch.image, None),
                **common,
            )
            for setting in ordered
        )
    else:
        snapshots = attacks.cw(objective, batch.image, steps=[setting.steps for setting in ordered], **common)
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
