"""Settings from options, and the refusal of values that cannot be. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from afbench.core import UsageError

Settings = TypeVar("Settings")


def from_options(kind: type[Settings], options: Mapping[str, Any]) -> Settings:
    """Build settings from those options that are fields of theirs and not None; the others keep their default."""
    names = {setting.name for setting in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in options.items() if name in names and value is not None})


def require_choice(settings: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise a UsageError that names the choices if the value of a setting is none of them."""
    value = getattr(settings, name)
    if value not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}; found '{value}'")


def require_limits(settings: object, limits: Mapping[str, tuple[bool, str]]) -> None:
    """Raise a UsageError that names the first setting that is not within its limits, and these.

    ``limits`` has for each name whether its value lies within them, and what they are.
    """
    for name, (is_within, expected) in limits.items():
        if not is_within:  # NaN is within no limits
            raise UsageError(f"{name} cannot be {getattr(settings, name)}; expected {expected}")
