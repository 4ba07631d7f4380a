"""Read keywords that a command takes as options: one value or several, numbers or texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TypeAlias, TypeVar

from afbench.core import UsageError

Choice = TypeVar("Choice", bound=str)
Texts: TypeAlias = str | Sequence[str]
"""One name, or several."""
Phi: TypeAlias = str | float | Fraction
"""An L-inf radius of the [0, 1] range: ``"2/255"``, ``2 / 255`` or a ``Fraction``."""
Params: TypeAlias = Texts | Mapping[str, object]
"""``{"neighbours": 4}``, ``"neighbours=4"``, or several of these texts."""


def texts_of(values: object) -> tuple[str, ...]:
    """Return the texts of one value or of several, as if they had been repeated options; of None, none."""
    if values is None:
        return ()
    if isinstance(values, str) or not isinstance(values, Sequence):
        return (str(values),)
    return tuple(str(value) for value in values)


def param_texts(params: Params) -> tuple[str, ...]:
    """Return parameters as ``name=value``."""
    if isinstance(params, Mapping):
        return tuple(f"{name}={value}" for name, value in params.items())
    return texts_of(params)


def require_text(option: str, value: object, hint: str = "") -> str:
    """Return a value that is a text.

    Raises:
        UsageError: if it is anything else, e.g. a loaded localizer where its name is asked for.
    """
    if not isinstance(value, str):
        raise UsageError(f"{option} must be a name; found {type(value).__name__}{hint and f'; {hint}'}")
    return value


def require_choice(option: str, value: str, choices: Sequence[Choice]) -> Choice:
    """Return the one of an option's choices that a value is.

    Raises:
        UsageError: if it is none, with the choices.
    """
    for choice in choices:
        if value == choice:
            return choice
    raise UsageError(f"{option} must be one of {', '.join(choices)}; found '{value}'")


def require_count(option: str, value: object, *, least: int) -> None:
    """Refuse what is no whole number from ``least`` up; None is an option left out.

    Raises:
        UsageError: with the option and what was found.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise UsageError(f"{option} must be a whole number from {least} up; found {value!r}")
