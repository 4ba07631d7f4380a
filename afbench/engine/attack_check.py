"""Try a user's own attack under the properties of the attacks that ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from afbench.crash import crash_line
from afbench.plans import Attack, naive_gradients, queries
from afbench.plans.attack_settings import make_setting

from .grid import own_arguments

from attacks import LossFn, uniform  # isort: skip - grid says which package of that name is wrong
from attacks.lab import Candidate, shape_of  # isort: skip
from attacks.properties import PROPERTIES  # isort: skip


@dataclass(frozen=True)
class Tried:
    """A property as a sentence about the attack, and what is wrong, or an empty text."""

    name: str
    problem: str


def check_attack(attack: Attack, params: Mapping[str, Any] | None = None) -> Iterator[Tried]:
    """Try an attack on a small random localizer; yield each property that applies to it once it was tried.

    Args:
        attack: a user's own.
        params: parameters other than the defaults; ``steps`` is set by some properties.
    Raises:
        UsageError: for a parameter that it does not have.
    """
    candidate = _candidate(attack, params or {})
    for promise in PROPERTIES:
        if not promise.applies(candidate):
            continue
        try:
            problem = promise.problem_of(candidate)
        except (Exception, SystemExit) as error:  # anything may happen in code that is not ours
            problem = crash_line(error)
        yield Tried(promise.name, problem)


def _candidate(attack: Attack, params: Mapping[str, Any]) -> Candidate:
    has_steps = "steps" in attack.defaults

    def setting(steps: int) -> Any:
        return make_setting(attack, "1/255", {**params, **({"steps": steps} if has_steps else {})})

    def run(loss: LossFn, image: Tensor, phi: Tensor, keys: Tensor, steps: int) -> Tensor:
        arguments = own_arguments(setting(steps), lambda draw: uniform(keys, shape_of(image), draw))
        attacked: Tensor = attack.function(loss, image, phi=phi, **arguments)  # type: ignore[misc]
        return attacked

    takes_gradients = naive_gradients(setting(1)) > 0
    return Candidate(
        attack.name,
        run,
        lambda steps: naive_gradients(setting(steps)),
        one_step=not has_steps,
        random=attack.random,
        queries=None if takes_gradients else lambda steps: queries(setting(steps)),
        looks=queries(setting(1)) if takes_gradients else 0,
    )
