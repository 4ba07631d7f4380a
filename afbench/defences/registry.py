"""Load a defence by what a user writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from afbench.core import UsageError
from afbench.images import resize

from . import transforms
from .custom_defence import load_own_defence
from .defence_check import require_sound
from .names import ANSM, NONE, NRP, TRANSFORMS, own_function, split_defence, transform_label
from .post_names import POST
from .posting import load_step
from .purifier import Gradient, Param, Purifier, RandomTransform, Resize, with_seed
from .training.batch_rules import ANTIALIASED, CROP, FITS

if TYPE_CHECKING:
    from .ansm.checkpoint import FrozenAnsm


@dataclass(frozen=True)
class _Fixed:
    """A transform that draws nothing."""

    transform: Callable[..., Tensor]
    gradient: Gradient


@dataclass(frozen=True)
class _Random:
    """A transform that takes one generator per image."""

    transform: Callable[..., Tensor]


_MAX_SIDE = 4096
"""Of the square that a checkpoint may ask for: larger ones are more than memory holds."""
_TABLE: Mapping[str, _Fixed | _Random] = {
    "jpeg": _Fixed(transforms.jpeg, "bpda"),
    "resize": _Fixed(transforms.resize, "exact"),
    "random-resize-pad": _Random(transforms.random_resize_pad),
    "gaussian-noise": _Random(transforms.gaussian_noise),
    # attacks by BPDA leave many times what the median's own gradient leaves (docs/defences.md)
    "median": _Fixed(transforms.median, "exact"),
    "bit-depth": _Fixed(transforms.bit_depth, "bpda"),
    "tv": _Fixed(transforms.tv, "bpda"),
}


def load_defence(
    text: str | Purifier, *, localizer: str | None = None, device: str = "cpu", seed: int = 0
) -> Purifier:
    """Read a defence by name, with its setting behind a colon: ``jpeg``, ``jpeg:60``, ``median:5``, ``ansm:CHECKPOINT``,
    ``nrp:CHECKPOINT``; or a step of posting as ``post-jpeg:75``; or a user's own as ``my_package.my_module:build``.

    Args:
        text: as ``list_defences`` shows them; omitted settings have a default. What ``as_defence`` made is checked and returned.
        localizer: whom it stands before; a trained defence belongs to one.
        device: where weights live; the other defences follow their input.
        seed: of random defences.
    Raises:
        UsageError: if it is unknown, its setting out of range, its checkpoint missing or of another localizer, or if a
            user's own breaks a promise.
    """
    if isinstance(text, Purifier):
        require_sound(text, device)
        return text
    if function := own_function(text):
        return load_own_defence(function, device, seed)
    if text.startswith(POST):
        return load_step(text.removeprefix(POST))
    name, setting = split_defence(text)
    if name == NONE:
        return Purifier(name=NONE, label=NONE, params={}, apply=_unchanged)
    if name in (ANSM, NRP):
        return (_ansm if name == ANSM else _nrp)(setting, localizer, device)
    return _load_transform(name, setting, seed)


def _load_transform(name: str, setting: str | None, seed: int) -> Purifier:
    entry, number = _TABLE[name], TRANSFORMS[name].number
    value = number.default if setting is None else number.parse(name, setting)
    value = int(value) if number.integer else value
    params: dict[str, Param] = {number.name: value}
    label = transform_label(name, value)
    if isinstance(entry, _Fixed):
        return Purifier(
            name=name,
            label=label,
            params=params,
            apply=partial(entry.transform, **params),
            gradient=entry.gradient,
        )
    transform: RandomTransform = partial(entry.transform, **params)
    return with_seed(Purifier(name=name, label=label, params=params, apply=_unchanged), transform, seed)


def _unchanged(image: Tensor) -> Tensor:
    return image


def _ansm(checkpoint: str | None, localizer: str | None, device: str) -> Purifier:
    """Load the module; the label of another checkpoint than the one that ships shows six digits of its hash."""
    if checkpoint == "":
        raise UsageError(
            f"the checkpoint of {ANSM} is empty; give {ANSM}:PATH, or {ANSM} for the one that ships"
        )
    if localizer is None:
        raise UsageError(f"{ANSM} belongs to a localizer; say which")
    from .ansm.checkpoint import load_ansm

    network = load_ansm(None if checkpoint is None else Path(checkpoint), localizer=localizer, device=device)
    label = ANSM if checkpoint is None else f"{ANSM}-{network.sha256[:6]}"
    return _trained(ANSM, label, network, owned=True)


def _nrp(checkpoint: str | None, localizer: str | None, device: str) -> Purifier:
    if not checkpoint:
        raise UsageError(f"{NRP} ships without weights; give {NRP}:PATH of a training by `afbench train nrp`")
    if localizer is None:
        raise UsageError(f"{NRP} stands before a localizer; say which")
    from .nrp import OF_LOCALIZER, load_nrp

    network = load_nrp(Path(checkpoint), localizer=localizer, device=device)
    owned = network.params["features"] == OF_LOCALIZER
    return _trained(NRP, f"{NRP}-{network.sha256[:6]}", network, owned=owned)


def _trained(name: str, label: str, network: FrozenAnsm, *, owned: bool) -> Purifier:
    owner = network.card["localizer"] if owned else {}
    sized = _trained_resize(network.card["settings"], label)
    params: dict[str, Param] = dict(network.params)
    return Purifier(
        name=name,
        label=label,
        params=params if sized is None else {**params, "size": str(sized)},
        apply=network if sized is None else partial(_purify_resized, network, sized),
        gradient="surrogate" if network.decides else "exact",
        weights_sha256=network.sha256,
        trained_on=network.trained_on,
        network=network,
        owner_sha256=str(owner.get("weights_sha256", "")),
        resize=sized,
        attack_at=str(network.card.get("attack_at", "")) if network.trained_on else "",
    )


def _purify_resized(network: FrozenAnsm, sized: Resize, image: Tensor) -> Tensor:
    """Resize an image as the module's training did, then purify it."""
    purified: Tensor = network(resize(image, (sized.side, sized.side), antialias=sized.antialias))
    return purified


def _trained_resize(settings: Mapping[str, Any], label: str) -> Resize | None:
    """Return how a checkpoint's training resized images; None where it cut crops from them."""
    fit, side = settings.get("fit", CROP), settings.get("side")
    if fit == CROP:
        return None
    if fit not in FITS or type(side) is not int or not 0 < side <= _MAX_SIDE:
        raise UsageError(
            f"the checkpoint of {label} is damaged: its images had fit {fit!r} and side {side!r}"
        )
    return Resize(side, fit == ANTIALIASED)
