"""Settings by name: the paper's, the same for few epochs, and those of the module that ships."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from afbench.core import UsageError

from .settings import FIND_WRITE, PAPER, Settings

PRESETS = ("paper", "short", "shipped")
_PAPER: Mapping[str, Mapping[str, Any]] = {
    "ifosn": {"fit": "crop", "side": 256, "epochs": (1000, 20), "batch": 16},
    "mvss": {"fit": "resize", "side": 512, "epochs": (200, 30), "batch": 8},
    "hdfnet": {"fit": "resize-antialiased", "side": 256, "epochs": (200, 10), "batch": 16},
    "code": {"fit": "resize", "side": 512, "epochs": (200, 30), "batch": 8},
}
"""Table II; batch sizes are ours, the paper gives none."""
_SHORT_EPOCHS = (10, 3)
_SMALL = {"encoder": "small", "encoder_weights": "none"}
_REFERENCE: Mapping[str, Any] = {**_SMALL, "fit": "crop", "side": 128}
_FIND_WRITE: Mapping[str, Any] = {
    **_SMALL,
    "recipe": FIND_WRITE,
    "dice": "plain",
    "lr": (2e-3, 1e-3),
    "batch": 16,
    "weight_decay": 1e-4,
    "warmup": 60,
    "schedule": "cosine",
    "average": 0.999,
    "clip": 2.0,
    "augment": ("flip", "perturb"),
    "bound": 0.25,
    "originals": 0.25,
    "noisy": 0.25,
    "attacks_from": 0.4,
    "validation": 0.03,
}
_FIND_WRITE_STEPS: Mapping[str, tuple[int, int]] = {
    "paper": (52_000, 400),
    "short": (5_000, 200),
    "shipped": (11_000, 400),
}
"""Of the two parts; the paper has no such recipe."""
_SHIPPED: Mapping[str, Any] = {"batch": 64, "attack": "fgsm-3", "turned": False}
"""A GPU takes more pairs a step in the same time, and has the time to attack them anew."""
SHIPPED_ATTACK = "fgsm"
"""What a training with preset ``shipped`` makes at every step where nothing else is asked for."""


def preset(name: str, localizer: str, recipe: str | None = None) -> Settings:
    """Return settings by name, of a recipe: the preset's own where None.

    ``paper``: Table II's row of the localizer, or IF-OSN's where it has none (for ``reference`` the small encoder on
    128-pixel crops); ``short``: the same for few epochs; ``shipped``: how the module that ships was made.

    Raises:
        UsageError: if the preset is unknown, or is not for this localizer.
    """
    if name not in PRESETS:
        raise UsageError(f"preset '{name}' is unknown; known presets: {', '.join(PRESETS)}")
    if name == "shipped":
        if localizer != "reference":
            raise UsageError(
                f"preset 'shipped' is for localizer 'reference', not for '{localizer}'; use paper or short"
            )
        if recipe == PAPER:
            raise UsageError(
                "preset 'shipped' is of recipe find-write; give --preset paper or short with recipe paper"
            )
        return replace(_find_write(name, localizer), **_SHIPPED)
    if recipe == FIND_WRITE:
        return _find_write(name, localizer)
    settings = Settings(
        **(_REFERENCE if localizer == "reference" else _PAPER.get(localizer, _PAPER["ifosn"]))
    )
    return settings if name == "paper" else replace(settings, epochs=_SHORT_EPOCHS)


def _find_write(name: str, localizer: str) -> Settings:
    sides = (128, 96) if localizer == "reference" else (256, 192)
    return Settings(**_FIND_WRITE, side=sides[0], first_side=sides[1], steps=_FIND_WRITE_STEPS[name])
