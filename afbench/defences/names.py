"""List the defences with their setting, its default and its range. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from afbench.core import UsageError
from afbench.naming import did_you_mean, resolve_name
from afbench.user_code import UserFunction, parse_function

NONE, ANSM, NRP = "none", "ansm", "nrp"


@dataclass(frozen=True)
class Number:
    """The one setting of a transform: its name, default, and what it may be.

    ``of_range``: it is a share of the [0, 1] range, and labels count it in levels of 255, as phi.
    """

    name: str
    default: float
    minimum: float
    maximum: float
    integer: bool = False
    odd: bool = False
    of_range: bool = False
    expected: str = ""

    def parse(self, defence: str, text: str) -> float:
        """Read the setting.

        Raises:
            UsageError: if it is no number, or out of range.
        """
        try:
            value = float(Fraction(text)) if text and len(text) < 40 and "e" not in text.lower() else math.nan
        except (ValueError, ZeroDivisionError, OverflowError):
            value = math.nan
        wrong_kind = (self.integer and value % 1 != 0) or (self.odd and value % 2 != 1)
        if wrong_kind or not self.minimum <= value <= self.maximum:  # NaN lies in no range
            expected = self.expected or f"from {self.minimum:g} to {self.maximum:g}"
            raise UsageError(f"the {self.name} of {defence} must be {expected}; found '{text}'")
        return int(value) if self.integer else value


@dataclass(frozen=True)
class Transform:
    """A defence that is not trained: its setting, with the default as it is written, and its meaning."""

    number: Number
    default: str
    summary: str


TRANSFORMS: Mapping[str, Transform] = {
    # 75 of libjpeg, with its 4:2:0 chroma, is what most software saves by default
    "jpeg": Transform(
        Number("quality", 75, 1, 100, integer=True), "75", "save and reload as JPEG, 4:2:0 chroma"
    ),
    "resize": Transform(
        Number("factor", 0.75, 0.05, 1), "0.75", "shrink both sides by a factor and enlarge again"
    ),
    "random-resize-pad": Transform(
        Number("factor", 0.8, 0.05, 1),
        "0.8",
        "shrink by a random factor, put it at a random place of a canvas, and take it back",
    ),
    "gaussian-noise": Transform(
        Number("sigma", 4 / 255, 0, 1, of_range=True, expected="from 0 to 1, e.g. 4/255"),
        "4/255",
        "add normal noise of standard deviation sigma",
    ),
    "median": Transform(
        Number("side", 3, 1, 15, integer=True, odd=True, expected="an odd number from 1 to 15"),
        "3",
        "the median of side x side pixels, each colour by itself",
    ),
    "bit-depth": Transform(Number("bits", 5, 1, 8, integer=True), "5", "round to 2**bits levels"),
    "tv": Transform(Number("weight", 0.05, 0.001, 10), "0.05", "denoise by total variation (Chambolle)"),
}


def transform_label(name: str, value: float) -> str:
    """Return what submissions and configs call a transform with its setting: ``jpeg-75``, ``gaussian-noise-4``."""
    return f"{name}-{255 * value if TRANSFORMS[name].number.of_range else value:.6g}"


def list_defences() -> dict[str, str]:
    """Return the known defences as they are written, and what they do."""
    transforms = {
        f"{name}[:{entry.number.name.upper()}]": f"{entry.summary}; {entry.number.name} {entry.default} if omitted"
        for name, entry in TRANSFORMS.items()
    }
    return {
        NONE: "the localizer alone",
        **transforms,
        f"{ANSM}[:CHECKPOINT]": "a network that undoes attacks (`afbench train ansm`); the one that ships serves `reference`",
        f"{NRP}:CHECKPOINT": "a purifier that `afbench train nrp` trained in feature space",
        "MODULE:FUNCTION[:NAME=VALUE...]": "your own; see docs/defences.md",
    }


def defence_names() -> list[str]:
    """Return the known defences without their settings."""
    return [NONE, *TRANSFORMS, ANSM, NRP]


def own_function(text: str) -> UserFunction | None:
    """Read a user's own defence, ``my_package.my_module:build[:name=value...]``; None if the text names another one."""
    function = parse_function(text)
    is_ours = resolve_name("defence", text.partition(":")[0], defence_names()) is not None
    return None if is_ours else function


def split_defence(text: str) -> tuple[str, str | None]:
    """Read ``NAME`` or ``NAME:SETTING``, the name in any case and by common aliases.

    Raises:
        UsageError: if the name is unknown.
    """
    name_text, colon, setting = text.partition(":")
    name = resolve_name("defence", name_text, defence_names())
    if name is None or (name == NONE and colon):
        hint = did_you_mean("defence", name_text, defence_names())
        raise UsageError(f"defence '{text}' is unknown; {hint}known defences: {', '.join(list_defences())}")
    return name, setting if colon else None
