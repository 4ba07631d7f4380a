"""What of an image a training sees: a crop, or the image resized as its localizer resizes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from afbench.core import Localizer, UsageError
from afbench.defences.ansm.settings import Settings
from afbench.defences.setting_checks import from_options
from afbench.defences.training.batch_rules import ANTIALIASED, CROP, RESIZE
from afbench.defences.training.single_stage import Schedule, check_schedule

Sized = TypeVar("Sized", Settings, Schedule)


def fit_and_side(crop: int | None, resize: int | None) -> dict[str, Any]:
    """Return ``fit`` and ``side`` as the options ``--crop`` and ``--resize`` ask for them; None where neither does.

    Raises:
        UsageError: for both together.
    """
    if crop is not None and resize is not None:
        raise UsageError("--crop and --resize exclude one another; give one")
    if crop is not None:
        return {"fit": CROP, "side": crop}
    return {"fit": None if resize is None else RESIZE, "side": resize}


def schedule_of(*, crop: int | None = None, resize: int | None = None, **options: Any) -> Schedule:
    """Return a schedule of crops or resized images, with those of its values replaced that are given (not None).

    Raises:
        UsageError: for a value that cannot be, or crop and resize together.
    """
    return check_schedule(from_options(Schedule, {**options, **fit_and_side(crop, resize)}))


def sized_for(settings: Sized, network: Localizer) -> Sized:
    """Return settings whose resized images are those that the localizer sees: its own size, antialiased as it does.

    Raises:
        UsageError: if they are of another size, which the localizer would resize once more.
    """
    if settings.fit == CROP:
        return settings
    side = getattr(network, "side", None)
    if side not in (None, settings.side):
        raise UsageError(
            f"images of {settings.side}x{settings.side} are not what '{network.name}' sees: it would resize them once more, to "
            f"{side}x{side}; give --resize {side}, or --crop N to train at the images' own size"
        )
    return replace(settings, fit=ANTIALIASED if getattr(network, "antialias", False) else RESIZE)
