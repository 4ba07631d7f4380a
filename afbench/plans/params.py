"""Fill in the defaults of an attack's parameters, and check types and ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from .attack_spec import Attack, Default
from .catalogue import CORNER, FAMILY, VERSION
from .ensemble import ENSEMBLE, RECIPE

TARGETS = ("mask", "empty", "hide")
"""What a sign attack moves away from (the true mask) or towards (the empty mask of an authentic image); ``hide`` is both."""
LOSSES = ("bce", "soft-f1", "js", "masked-ce", "balanced-ce", "hinge")
"""What a sign attack raises; the engine has a function for each."""
REGIONS = ("all", "forged", "authentic")
"""Where noise may be: everywhere, inside the forged pixels of the true mask, or outside of them."""
_NO_EMPTY_MASK = ("masked-ce", "hinge")
"""Losses that stop at pixels already wrong: lowered towards an empty mask, they would let go of forged pixels."""
_UNRECORDED = {"target": TARGETS[0], "loss": LOSSES[0], "where": REGIONS[0], "kappa": 0.0}
"""Defaults that are not recorded: configs made before there was a choice keep their hashes."""
_CHOICES = {
    "optimizer": ("adam", "gd"),
    "objective": ("probability", "logit"),
    "target": TARGETS,
    "loss": LOSSES,
    "where": REGIONS,
    "kernel_name": ("gaussian", "linear", "uniform"),
    "eps": (CORNER,),
    FAMILY: (VERSION,),
    ENSEMBLE: (RECIPE,),
}
_ITERATIONS = ("steps", "num_iter_set", "queries")
"""What plans and rows call iterations, of whatever attack."""
_COUNTS = {"c_search": 20}
"""Whole numbers without a default, from 1 to this."""
_POSITIVE = ("lr", "c", "alpha_over_phi", "alpha_over_eps", "alpha", "p_init", "resize_rate")
_AT_MOST = {"delta": 1, "diversity_prob": 1, "p_init": 1, "resize_rate": 2}


def resolve_params(attack: Attack, values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults and check the types and ranges of the user's values.

    Raises:
        ValueError: for a parameter the attack does not have, or a value it cannot take.
    """
    resolved: dict[str, Any] = dict(attack.defaults)
    for name, value in values.items():
        if name not in attack.parameters or (attack.function and name in attack.fixed):
            if name in ("eps", "max_epsilon"):
                raise ValueError(f"attack '{attack.name}' has its {name} from --phi; leave it out")
            choices = ", ".join(attack.choices) or "none"
            raise ValueError(f"attack '{attack.name}' has no parameter '{name}'; its parameters: {choices}")
        check = _typed if attack.function and name in attack.defaults else _checked
        resolved[name] = check(name, attack.defaults.get(name, 1.0), value)
    for name, default in _UNRECORDED.items():
        if resolved.get(name) == default and (not attack.function or name in attack.optional):
            del resolved[name]
    if "target" in resolved and resolved.get("loss") in _NO_EMPTY_MASK:
        raise ValueError(f"loss={resolved['loss']} moves away from the true mask; leave target out")
    if attack.function:  # what its parameters mean is its own affair
        return resolved
    _settle_kappa_and_alpha(attack, values, resolved)
    return resolved


def _settle_kappa_and_alpha(attack: Attack, values: Mapping[str, Any], resolved: dict[str, Any]) -> None:
    if "kappa" in resolved and not resolved["hinge"]:
        raise ValueError("kappa is where the hinge ends; leave it out with hinge=false")
    if resolved.get("kappa", 0) >= 1 and resolved["objective"] == "probability":
        raise ValueError(
            f"kappa must be below 1 with objective=probability, whose terms end at about -1; found {resolved['kappa']:g}"
        )
    if "alpha" in resolved:
        ratio = next(name for name in attack.defaults if name.startswith("alpha_over"))
        if ratio in values:
            raise ValueError(f"attack '{attack.name}' takes alpha or {ratio}; found both")
        del resolved[ratio]
    # None in the defaults stands for the papers' step size, which spreads phi over all steps
    if resolved.get("alpha_over_phi", 0) is None:
        resolved["alpha_over_phi"] = 1.0 / resolved["steps"]


def iterations(params: Mapping[str, Any]) -> int:
    """Count the iterations of an attack with these parameters."""
    return next((int(params[name]) for name in _ITERATIONS if name in params), 1)


def _typed(name: str, default: Default, value: Any) -> Any:
    """Check a parameter of a user's own attack, whose name says nothing, by the type of its default alone."""
    if isinstance(default, str):
        return str(value)
    if isinstance(default, bool):
        return _read_flag(name, value)
    number = _read_finite(name, value)
    if isinstance(default, int):
        if number != int(number):
            raise ValueError(f"parameter {name} must be a whole number; found {value}")
        if name in _ITERATIONS and number < 1:
            raise ValueError(f"parameter {name} must be a whole number from 1; found {value}")
        return int(number)
    return number


def _checked(name: str, default: Default, value: Any) -> Any:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"parameter {name} must be one of {', '.join(_CHOICES[name])}; found '{value}'")
        return value
    if isinstance(default, bool):
        return _read_flag(name, value)
    if name in _COUNTS and not (str(value).isdecimal() and 1 <= int(value) <= _COUNTS[name]):
        raise ValueError(
            f"parameter {name} must be a whole number from 1 to {_COUNTS[name]}; found '{value}'"
        )
    if name in _COUNTS:
        return int(value)
    number = _read_finite(name, value)
    if isinstance(default, int):
        least = 2 if name == "queries" else 1
        if number != int(number) or not least <= number <= 100_000:
            raise ValueError(f"parameter {name} must be a whole number from {least} to 100000; found {value}")
        return int(number)
    if not 0 <= number <= 1e6 or (name in _POSITIVE and number == 0):
        raise ValueError(f"parameter {name} must be a positive number; found {value}")
    if number > _AT_MOST.get(name, number):
        low = "(" if name in _POSITIVE else "["
        raise ValueError(f"parameter {name} must be in {low}0, {_AT_MOST[name]}]; found {value}")
    return number


def _read_flag(name: str, value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError(f"parameter {name} must be true or false; found '{value}'")
    return str(value).lower() == "true"


def _read_finite(name: str, value: Any) -> float:
    # float(True) is 1.0: a bool where a number belongs is a mistake, not a number
    number = math.nan if isinstance(value, bool) else _read_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"parameter {name} must be a number; found '{value}'")
    return number


def _read_number(name: str, value: Any) -> float:
    try:
        # a step size is written like phi: 1/255
        if name == "alpha" and len(str(value)) <= 40 and "e" not in str(value).lower():
            return float(Fraction(str(value)))
        return float(value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return math.nan
