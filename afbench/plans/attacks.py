"""The attacks one can ask for: parameters, defaults, and what each costs. No torch here."""

from __future__ import annotations

from collections.abc import Mapping

from afbench.core import Setting

from .attack_spec import Attack
from .catalogue import CATALOGUE
from .ensemble import ENSEMBLE, MEMBERS, RECIPE

PAPER_PHI = ("1/255", "2/255", "3/255")
PAPER_STEPS = (50, 100, 150, 200, 250)
WHERE = ("where",)
"""The region that noise is kept in: only attacks whose every image can be kept there while they go on have it."""
OBJECTIVE = ("loss", "target", *WHERE)
"""What decides the loss that an attack raises, and where."""

_TABLE = (
    # first here is first in every table: the figure that says how robust a localizer is
    Attack(
        "strong",
        "phi",
        "strong",
        f"worst case per image of {len(MEMBERS) - 1} attacks; has no parameters",
        "after SEA, Croce et al. 2024, arXiv 2306.12941",
        {ENSEMBLE: RECIPE},
        fixed=(ENSEMBLE,),
    ),
    Attack(
        "fgsm",
        "phi",
        "sign",
        "one signed gradient step",
        "Goodfellow et al. 2014, arXiv 1412.6572",
        optional=OBJECTIVE,
    ),
    Attack(
        "bim",
        "phi",
        "sign",
        "signed gradient steps inside the ball",
        "Kurakin et al. 2016, arXiv 1607.02533",
        {"steps": 10, "alpha_over_phi": 0.25},
        OBJECTIVE,
    ),
    Attack(
        "pgd",
        "phi",
        "pgd",
        "as bim from a random start",
        "Madry et al. 2018, arXiv 1706.06083",
        {"steps": 10, "alpha_over_phi": 0.25},
        OBJECTIVE,
    ),
    Attack(
        "mifgsm",
        "phi",
        "sign",
        "signed steps along a running mean of gradients",
        "Dong et al. 2018, arXiv 1710.06081",
        {"steps": 10, "alpha_over_phi": None, "mu": 1.0},
        OBJECTIVE,
    ),
    Attack(
        "pgn",
        "phi",
        "pgn",
        "as mifgsm, gradients averaged over random neighbours",
        "Ge et al. 2023, arXiv 2306.05225",
        {"steps": 10, "alpha_over_phi": None, "mu": 1.0, "neighbours": 20, "zeta": 3.0, "delta": 0.5},
        OBJECTIVE,
    ),
    Attack(
        "cw",
        "steps",
        "cw",
        "least squares towards an empty mask, no bound",
        "Carlini & Wagner 2017, arXiv 1608.04644, as in ANSM Eq. 4-5",
        {"lr": 1e-3, "c": 1.0, "optimizer": "adam", "hinge": True, "objective": "probability"},
        ("kappa", "c_search"),
    ),
    Attack(
        "noise",
        "phi",
        "noise",
        "control: random signs of size phi, no gradient",
        "the control an attack must beat",
    ),
    Attack(
        "segpgd",
        "phi",
        "segpgd",
        "as pgd, on right pixels first",
        "Gu et al. 2022, arXiv 2207.12391",
        {"steps": 10, "alpha_over_phi": 0.25},
        WHERE,
    ),
    Attack(
        "cospgd",
        "phi",
        "cospgd",
        "as pgd, pixels weighted by agreement with the mask",
        "Agnihotri et al. 2024, arXiv 2302.02213",
        {"steps": 10, "alpha_over_phi": 0.25},
        WHERE,
    ),
    Attack(
        "apgd",
        "phi",
        "apgd",
        "signed steps that halve by themselves, best point kept",
        "Croce & Hein 2020, arXiv 2003.01690",
        {"steps": 20},
        OBJECTIVE,
    ),
    Attack(
        "square",
        "phi",
        "square",
        "black box: random squares, losses but no gradients",
        "Andriushchenko et al. 2020, arXiv 1912.00049",
        {"queries": 1000, "p_init": 0.8},
    ),
)
ATTACKS: Mapping[str, Attack] = {attack.name: attack for attack in (*_TABLE, *CATALOGUE)}
"""By name: the built-in ones, then those of the torchattacks catalogue, which a user names ``torchattacks:NAME``."""
BUILT_IN = tuple(attack.name for attack in _TABLE)


def attack_of(setting: Setting) -> Attack:
    """Return the attack of a setting, also a user's own."""
    attack: Attack = setting.user_attack or ATTACKS[setting.attack]
    return attack
