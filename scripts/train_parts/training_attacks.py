"""The attacks that a training of the ANSM may see, made anew in each step."""

from __future__ import annotations

from typing import Any, NamedTuple

from afbench.core import Localizer, Setting
from afbench.defences.training.pairs import Attack
from afbench.plans import make_setting
from afbench.workflows.training.online_attack import attack_name, attacker, in_any_orientation


class TrainingAttack(NamedTuple):
    """An attack on the localizer that sees an image as it is, or turned at random."""

    setting: Setting
    turned: bool = False

    @property
    def name(self) -> str:
        """Return what settings record: the setting of a config, and a word more that no config has."""
        return attack_name(self.setting) + ("-turned" if self.turned else "")


def _from_random_start(phi: str, **params: Any) -> TrainingAttack:
    """Return FGSM from a random point of the ball, with a step of 1.25 phi, cut off at the ball.

    Source: Wong et al. 2020, arXiv 2001.03994, Algorithm 3.
    """
    return TrainingAttack(make_setting("pgd", phi, {"steps": 1, "alpha_over_phi": 1.25, **params}))


FGSM = TrainingAttack(make_setting("fgsm", "3/255", {}))
_TURNED = FGSM._replace(turned=True)
_VARIED = (
    *(_from_random_start(phi) for phi in ("3/255", "2/255", "1/255")),
    *(_from_random_start("3/255", loss=loss) for loss in ("soft-f1", "masked-ce", "js", "hinge")),
    _from_random_start("3/255", target="empty"),
)
_VARIED_AND_TURNED = tuple(variant._replace(turned=True) for variant in _VARIED)
_MIX = (
    make_setting("fgsm", "1/255", {}),
    make_setting("pgd", "3/255", {"steps": 5}),
    make_setting("pgd", "1/255", {"steps": 5}),
    make_setting("pgd", "3/255", {"steps": 5, "loss": "soft-f1"}),
    make_setting("bim", "2/255", {"steps": 3, "loss": "masked-ce"}),
)
ATTACKS = {
    "fgsm": (FGSM,),
    "turned": (FGSM, _TURNED),
    "varied": (*4 * (FGSM,), *_VARIED),
    "single": (*5 * (FGSM,), *2 * (_TURNED,), *_VARIED_AND_TURNED),
    "mix": (FGSM, *map(TrainingAttack, _MIX)),
}
"""What a training may see, one of them in each step. All but those of ``mix`` take a single step; none is C&W."""


def attack_of(variant: TrainingAttack, localizer: Localizer, seed: int) -> Attack:
    """Return the attack of a training on a localizer."""
    attack = attacker(localizer, variant.setting, seed)
    return in_any_orientation(attack) if variant.turned else attack
