"""``afbench.check_attack``: try an attack of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.plans import Attack
from afbench.plans.own_attack import find_attack

from .keywords import require_text

if TYPE_CHECKING:
    import pandas as pd

    from afbench.engine.attack_check import Tried


@dataclass(frozen=True)
class CheckedAttack:
    """The properties that an attack was tried on: ``findings`` with ``name`` and ``problem``, which is "" where nothing is wrong."""

    findings: Sequence[Tried]

    @property
    def passed(self) -> bool:
        """Return whether it has every property."""
        return not any(finding.problem for finding in self.findings)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per property: ``name``, ``passed``, ``problem``."""
        import pandas as pd

        rows = [asdict(finding) | {"passed": not finding.problem} for finding in self.findings]
        return pd.DataFrame(rows, columns=["name", "passed", "problem"])


@checks_arguments
def check_attack(name: str | Attack, *, on_finding: Callable[[Tried], None] | None = None) -> CheckedAttack:
    """Try an attack of your own under the properties of the attacks that ship, on a small random localizer.

    Args:
        name: ``my_package.my_module:build``, or what ``afbench.as_attack`` made.
        on_finding: called with each finding as soon as it is there.
    Returns:
        A ``CheckedAttack``: ``passed``, ``findings``; ``to_pandas()`` has one row per property. What is broken is returned, not raised.
    Raises:
        UsageError: if the attack ships with afbench, or cannot be imported.
    """
    params: Mapping[str, Any] = {}
    if isinstance(name, Attack):
        attack = name
    else:
        attack, params = find_attack(
            require_text("name", name, "`afbench.as_attack` makes one of a function")
        )
    if attack.function is None:
        raise UsageError(
            f"'{attack.name}' ships with afbench, and its tests try it; give your own as module:function"
        )
    # after the cheap mistakes: this imports torch
    from afbench.engine.attack_check import check_attack as try_attack

    findings = []
    for finding in try_attack(attack, params):
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    return CheckedAttack(findings)
