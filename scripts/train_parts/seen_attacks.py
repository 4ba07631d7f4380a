"""The attacks that a training of the ANSM may see, made anew in each step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from torch import nn

from afbench.core import Localizer, Setting
from afbench.defences.ansm.find_write import Finder
from afbench.defences.training.pairs import Attack
from afbench.plans import make_setting
from afbench.workflows.training.online_attack import as_in_use, attack_name, attacker, in_any_orientation


class SeenAttack(NamedTuple):
    """An attack on the localizer, or on the finder as it is at that step; on images as they are, or turned at random."""

    setting: Setting
    turned: bool = False
    on_finder: bool = False

    @property
    def name(self) -> str:
        """Return what settings record: the setting of a config, and in words what no config has."""
        prefix, suffix = "finder-" if self.on_finder else "", "-turned" if self.turned else ""
        return f"{prefix}{attack_name(self.setting)}{suffix}"


def from_random_start(phi: str, **params: Any) -> Setting:
    """Return FGSM from a random point of the ball, with a step of 1.25 phi, cut off at the ball.

    Source: Wong et al. 2020, arXiv 2001.03994, Algorithm 3.
    """
    return make_setting("pgd", phi, {"steps": 1, "alpha_over_phi": 1.25, **params})


FGSM = SeenAttack(make_setting("fgsm", "3/255", {}))
_TURNED = FGSM._replace(turned=True)
_ON_FINDER = tuple(SeenAttack(from_random_start(phi), on_finder=True) for phi in ("3/255", "2/255", "1/255"))
_VARIED = (
    *(SeenAttack(from_random_start(phi)) for phi in ("3/255", "2/255", "1/255")),
    *(SeenAttack(from_random_start("3/255", loss=loss)) for loss in ("soft-f1", "masked-ce", "js", "hinge")),
    SeenAttack(from_random_start("3/255", target="empty")),
)
_MIX = (
    make_setting("fgsm", "1/255", {}),
    make_setting("pgd", "3/255", {"steps": 5}),
    make_setting("pgd", "1/255", {"steps": 5}),
    make_setting("pgd", "3/255", {"steps": 5, "loss": "soft-f1"}),
    make_setting("bim", "2/255", {"steps": 3, "loss": "masked-ce"}),
)
ATTACKS = {
    "fgsm": (FGSM,),
    "varied": (*4 * (FGSM,), *_VARIED),
    "turned": (FGSM, _TURNED),
    "own": (*3 * (FGSM,), *_ON_FINDER),
    "single": (
        *6 * (FGSM,),
        *2 * (_TURNED,),
        *(seen._replace(turned=True) for seen in _VARIED),
        *_ON_FINDER,
    ),
    "mix": (FGSM, *map(SeenAttack, _MIX)),
}
"""What a training may see, one of them in each step. All but those of ``mix`` take a single step; none is C&W."""


def attack_of(seen: SeenAttack, localizer: Localizer, module: nn.Module, seed: int) -> Attack:
    """Return the attack of a training, on the localizer or on the finder of the module that is trained."""
    if not seen.on_finder:
        attack = attacker(localizer, seen.setting, seed)
    else:
        finder: Finder = module.finder  # type: ignore[assignment]
        # the finder's network has the shape of the localizer's
        target = replace(localizer, network=finder.network)  # type: ignore[type-var, call-arg]
        attack = as_in_use(attacker(target, seen.setting, seed), finder)
    return in_any_orientation(attack) if seen.turned else attack
