"""Defences by name: what a user writes to what stands in front of a localizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from afbench.core import UsageError

from . import transforms
from .purifier import EOT_DRAWS, Gradient, Param, Purifier, RandomTransform, keyed_by_number, keyed_by_pixels

if TYPE_CHECKING:
    from .ansm.checkpoint import FrozenAnsm

NONE, ANSM, NRP = "none", "ansm", "nrp"


@dataclass(frozen=True)
class _Number:
    """The one setting of a transform: its name, default, and what it may be."""

    name: str
    default: float
    least: float
    most: float
    whole: bool = False
    odd: bool = False
    told: str = ""

    def parse(self, defence: str, text: str) -> float:
        try:
            value = float(Fraction(text)) if text and len(text) < 40 and "e" not in text.lower() else math.nan
        except (ValueError, ZeroDivisionError, OverflowError):
            value = math.nan
        wrong_kind = (self.whole and value % 1 != 0) or (self.odd and value % 2 != 1)
        if wrong_kind or not self.least <= value <= self.most:  # NaN is in no range
            told = self.told or f"from {self.least:g} to {self.most:g}"
            raise UsageError(f"the {self.name} of {defence} must be {told}; found '{text}'")
        return int(value) if self.whole else value


@dataclass(frozen=True)
class _Fixed:
    """A transform that draws nothing."""

    number: _Number
    transform: Callable[..., Tensor]
    gradient: Gradient


@dataclass(frozen=True)
class _Random:
    """A transform that takes one generator per image."""

    number: _Number
    transform: Callable[..., Tensor]


_TABLE: Mapping[str, _Fixed | _Random] = {
    # 75 of libjpeg, with its 4:2:0 chroma, is what most software saves by default
    "jpeg": _Fixed(_Number("quality", 75, 1, 100, whole=True), transforms.jpeg, "bpda"),
    "resize": _Fixed(_Number("factor", 0.75, 0.05, 1), transforms.resize, "exact"),
    "random-resize-pad": _Random(_Number("factor", 0.8, 0.05, 1), transforms.random_resize_pad),
    "gaussian-noise": _Random(
        _Number("sigma", 4 / 255, 0, 1, told="from 0 to 1, e.g. 4/255"), transforms.gaussian_noise
    ),
    "median": _Fixed(
        _Number("side", 3, 1, 15, whole=True, odd=True, told="an odd number from 1 to 15"),
        transforms.median,
        # attacks by BPDA leave many times what its own gradient leaves (docs/defences.md)
        "exact",
    ),
    "bit-depth": _Fixed(_Number("bits", 5, 1, 8, whole=True), transforms.bit_depth, "bpda"),
    "tv": _Fixed(_Number("weight", 0.05, 0.001, 10), transforms.tv, "bpda"),
}


def list_defences() -> dict[str, str]:
    """Known defences as they are written, and what they do."""
    found = {NONE: "the localizer alone"}
    for name, entry in _TABLE.items():
        told = str(entry.transform.__doc__).partition("\n")[0].replace("``", "")
        found[f"{name}[:{entry.number.name.upper()}]"] = told
    found[f"{ANSM}[:CHECKPOINT]"] = "ANSM; without a checkpoint the one that ships, for `reference`"
    return found | {f"{NRP}:CHECKPOINT": "a purifier that `afbench train nrp` trained in feature space"}


def load_defence(text: str, *, localizer: str | None = None, device: str = "cpu", seed: int = 0) -> Purifier:
    """Read a defence by name, with its setting behind a colon: ``jpeg``, ``jpeg:60``, ``median:5``, ``ansm:CHECKPOINT``,
    ``nrp:CHECKPOINT``.

    Args:
        text: as ``list_defences`` shows them; omitted settings have a default.
        localizer: whom it stands before; a trained defence belongs to one.
        device: where weights live; the other defences follow their input.
        seed: of random defences.
    Raises:
        UsageError: if it is unknown, its setting out of range, or its checkpoint missing or of another localizer.
    """
    name, colon, setting = text.partition(":")
    if name == NONE and not colon:
        return Purifier(NONE, NONE, {}, _unchanged)
    if name == ANSM:
        return _ansm(setting if colon else None, localizer, device)
    if name == NRP:
        return _nrp(setting, localizer, device)
    if name not in _TABLE:
        raise UsageError(f"defence '{text}' is unknown; known defences: {', '.join(list_defences())}")
    entry = _TABLE[name]
    value = entry.number.parse(name, setting) if colon else entry.number.default
    value = int(value) if entry.number.whole else value
    params: dict[str, Param] = {entry.number.name: value}
    label = f"{name}-{255 * value if entry.number.name == 'sigma' else value:.6g}"
    if isinstance(entry, _Fixed):
        return Purifier(
            name,
            label,
            params,
            partial(entry.transform, **params),
            entry.gradient,
        )
    transform: RandomTransform = partial(entry.transform, **params)
    return Purifier(
        name,
        label,
        params,
        keyed_by_pixels(transform, seed),
        draw=keyed_by_number(transform, seed),
        draws=EOT_DRAWS,
        seed=seed,
    )


def _unchanged(image: Tensor) -> Tensor:
    return image


def _ansm(checkpoint: str | None, localizer: str | None, device: str) -> Purifier:
    """The trained module; another checkpoint than the one that ships shows six digits of its hash."""
    if checkpoint == "":
        raise UsageError(
            f"the checkpoint of {ANSM} is empty; give {ANSM}:PATH, or {ANSM} for the one that ships"
        )
    if localizer is None:
        raise UsageError(f"{ANSM} belongs to a localizer; say which")
    from .ansm.checkpoint import load_ansm

    network = load_ansm(None if checkpoint is None else Path(checkpoint), localizer=localizer, device=device)
    label = ANSM if checkpoint is None else f"{ANSM}-{network.sha256[:6]}"
    return _trained(ANSM, label, network)


def _nrp(checkpoint: str, localizer: str | None, device: str) -> Purifier:
    if not checkpoint:
        raise UsageError(f"{NRP} ships without weights; give {NRP}:PATH of a training by `afbench train nrp`")
    if localizer is None:
        raise UsageError(f"{NRP} stands before a localizer; say which")
    from .nrp import load_nrp

    network = load_nrp(Path(checkpoint), localizer=localizer, device=device)
    return _trained(NRP, f"{NRP}-{network.sha256[:6]}", network)


def _trained(name: str, label: str, network: FrozenAnsm) -> Purifier:
    return Purifier(
        name,
        label,
        dict(network.params),
        network,
        weights_sha256=network.sha256,
        trained_on=network.trained_on,
        network=network,
    )
