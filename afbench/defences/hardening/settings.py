"""How something is trained on a benchmark's pairs in one stage, and what hardening adds to that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

from afbench.core import UsageError
from afbench.defences.ansm.settings import Settings as Cut
from afbench.defences.ansm.settings import replace_settings

TASKS = ("localize", "classify")
NONE, ADVERSARIAL, PENALTY, COMBINED = "none", "at", "gradient-penalty", "both"
METHODS = (NONE, ADVERSARIAL, PENALTY, COMBINED)


@dataclass(frozen=True)
class Schedule:
    """One stage of AdamW whose learning rate falls to 0 along a cosine.

    Attributes:
        fit: how images come to ``side`` x ``side`` pixels: a random ``crop``, or ``resize`` (bilinear).
        batch: images a step; of each the original and the attacked one.
        clip: largest gradient norm; 0 for no limit.
        flip: flip and transpose at random.
        validation: share of the images, by whole groups, that is never trained on.
        seed: of every random draw.
    """

    epochs: int = 10
    lr: float = 2e-4
    batch: int = 8
    fit: str = "crop"
    side: int = 128
    weight_decay: float = 1e-4
    clip: float = 1.0
    flip: bool = True
    validation: float = 0.1
    seed: int = 0

    def cut(self) -> Cut:
        """Return the settings of what cuts images into batches.

        Raises:
            UsageError: for a value that cannot be.
        """
        values = {
            "loss": "pwr",  # the name of a stage that is cut as one of a single loss
            "fit": self.fit,
            "side": self.side,
            "epochs": (self.epochs, 1),
            "lr": (self.lr, self.lr),
            "batch": self.batch,
            "weight_decay": self.weight_decay,
            "clip": self.clip,
            "augment": ("flip",) if self.flip else (),
            "validation": self.validation,
            "seed": self.seed,
        }
        return replace_settings(Cut(), values)


@dataclass(frozen=True)
class Hardening:
    """What is hardened, and how.

    Attributes:
        task: ``localize``, or ``classify`` (one forged/authentic answer per image).
        method: ``at`` trains on originals and attacked images; ``gradient-penalty`` on originals, with the penalty;
            ``both`` on both kinds, with the penalty on each (Zhao et al.); ``none`` on originals alone, the control.
        penalty: lambda, what the penalty is multiplied by.
        attack: what attacks the weights in training, at every step anew, in words; empty for the benchmark's own
            images, which attack the weights that training starts from.
    """

    task: str = "localize"
    method: str = COMBINED
    penalty: float = 0.1
    attack: str = ""

    @property
    def penalised(self) -> bool:
        return self.method in (PENALTY, COMBINED)

    @property
    def on_attacked(self) -> bool:
        return self.method in (ADVERSARIAL, COMBINED)


T = TypeVar("T", bound="Schedule | Hardening")


def replace_values(base: T, replacements: Mapping[str, Any]) -> T:
    """Replace those fields of a value that are not None, and check all.

    Raises:
        UsageError: for a value that cannot be.
    """
    names = {setting.name for setting in fields(base)}
    values = {name: value for name, value in replacements.items() if name in names and value is not None}
    result = type(base)(**{**asdict(base), **values})
    if isinstance(result, Schedule):
        result.cut()
        return result
    for name, choices in (("task", TASKS), ("method", METHODS)):
        if getattr(result, name) not in choices:
            raise UsageError(f"{name} must be one of {', '.join(choices)}; found '{getattr(result, name)}'")
    if not 0 <= result.penalty < 1e6:
        raise UsageError(f"penalty cannot be {result.penalty}; give a number from 0")
    return result
