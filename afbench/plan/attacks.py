"""The attacks one can ask for: parameters, defaults, and what each costs. No torch here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Default = float | int | bool | str | None


@dataclass(frozen=True)
class Attack:
    """One attack as plans see it.

    ``sweeps`` says what a list of settings varies: ``phi`` or ``steps``. Settings of one ``group`` share
    gradients and are run together. ``defaults`` are the paper's or, where it is silent, the attack's own.
    """

    name: str
    sweeps: str
    group: str
    summary: str
    source: str
    defaults: Mapping[str, Default] = field(default_factory=dict)


PAPER_PHI = ("1/255", "2/255", "3/255")
PAPER_STEPS = (50, 100, 150, 200, 250)

_TABLE = (
    Attack("fgsm", "phi", "sign", "one signed gradient step", "Goodfellow et al. 2014, arXiv 1412.6572"),
    Attack(
        "bim",
        "phi",
        "sign",
        "signed gradient steps inside the ball",
        "Kurakin et al. 2016, arXiv 1607.02533",
        {"steps": 10, "alpha_over_phi": 0.25},
    ),
    Attack(
        "pgd",
        "phi",
        "pgd",
        "as bim from a random start",
        "Madry et al. 2018, arXiv 1706.06083",
        {"steps": 10, "alpha_over_phi": 0.25},
    ),
    Attack(
        "mifgsm",
        "phi",
        "sign",
        "signed steps along a running mean of gradients",
        "Dong et al. 2018, arXiv 1710.06081",
        {"steps": 10, "alpha_over_phi": None, "mu": 1.0},
    ),
    Attack(
        "pgn",
        "phi",
        "pgn",
        "as mifgsm, gradients averaged over random neighbours",
        "Ge et al. 2023, arXiv 2306.05225",
        {"steps": 10, "alpha_over_phi": None, "mu": 1.0, "neighbours": 20, "zeta": 3.0, "delta": 0.5},
    ),
    Attack(
        "cw",
        "steps",
        "cw",
        "least squares towards an empty mask, no bound",
        "Carlini & Wagner 2017, arXiv 1608.04644, as in ANSM Eq. 4-5",
        {"lr": 1e-3, "c": 1.0, "optimizer": "adam", "hinge": True, "objective": "probability"},
    ),
    Attack(
        "noise",
        "phi",
        "noise",
        "control: random signs of size phi, no gradient",
        "the control an attack must beat",
    ),
)
ATTACKS: Mapping[str, Attack] = {attack.name: attack for attack in _TABLE}

_CHOICES = {"optimizer": ("adam", "gd"), "objective": ("probability", "logit")}


def resolve_params(attack: Attack, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults and check the types and ranges of what was given.

    Raises:
        ValueError: for a parameter the attack does not have, or a value it cannot take.
    """
    resolved: dict[str, Any] = dict(attack.defaults)
    for name, value in given.items():
        if name not in attack.defaults:
            known = ", ".join(attack.defaults) or "none"
            raise ValueError(f"attack '{attack.name}' has no parameter '{name}'; its parameters: {known}")
        resolved[name] = _checked(name, value)
    if resolved.get("alpha_over_phi", 0) is None:
        resolved["alpha_over_phi"] = 1.0 / resolved["steps"]
    return resolved


def _checked(name: str, value: Any) -> Any:
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise ValueError(f"parameter {name} must be one of {', '.join(_CHOICES[name])}; found '{value}'")
        return value
    if name == "hinge":
        if str(value).lower() not in ("true", "false"):
            raise ValueError(f"parameter hinge must be true or false; found '{value}'")
        return str(value).lower() == "true"
    whole = name in ("steps", "neighbours")
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"parameter {name} must be a number; found '{value}'")
    if whole and (number != int(number) or not 1 <= number <= 100_000):
        raise ValueError(f"parameter {name} must be a whole number from 1 to 100000; found {value}")
    if not 0 <= number <= 1e6 or (name in ("lr", "c", "alpha_over_phi") and number == 0):
        raise ValueError(f"parameter {name} must be a positive number; found {value}")
    if name == "delta" and number > 1:
        raise ValueError(f"parameter delta must be in [0, 1]; found {value}")
    return int(number) if whole else number
