"""Turn the attacks, phi, steps and parameters that a user asks for into settings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from afbench.core import Setting, UsageError
from afbench.naming import named_once

from .own_attack import find_attack
from .runplan import expand_attack

_PARAM = re.compile(r"([A-Za-z_]+)=(\S+)")


def requested_settings(
    texts: Sequence[str],
    *,
    phi: Sequence[str],
    steps: Sequence[str],
    params: Sequence[str],
    region: str | None,
    large_phi: bool,
) -> tuple[Setting, ...]:
    """Expand attacks to their settings, each attack with those of the ``params`` (NAME=VALUE) that it has; ``region`` is ``--where``.

    Raises:
        UsageError: for anything unknown or out of range, and for what none of the attacks takes.
    """
    values = _parse_params([*params, *([f"where={region}"] if region else [])])
    if values.get("where") == "all":
        del values["where"]  # what every attack does by itself
    attacks = [find_attack(text) for text in texts]
    attack_names = ", ".join(texts)
    sweeps = {attack.sweeps for attack, _ in attacks}
    if phi and "phi" not in sweeps:
        raise UsageError(f"none of the attacks {attack_names} takes --phi; cw takes --steps")
    if steps and "steps" not in sweeps:
        in_steps = any("steps" in attack.parameters for attack, _ in attacks)
        remedy = "their iterations are --param steps=N" if in_steps else "leave it out"
        raise UsageError(f"none of the attacks {attack_names} takes --steps; {remedy}")
    # an attack that ignores it would put noise where none was asked for
    boundless = [attack for attack, _ in attacks if "where" not in attack.parameters]
    if "where" in values and boundless:
        raise UsageError(
            f"attack '{boundless[0].asked_as or boundless[0].name}' cannot keep its noise in a region; leave it or --where out"
        )
    # a parameter that no attack takes is a typing error, and would be ignored without a word
    for key in values:
        if not any(key in attack.parameters for attack, _ in attacks):
            parameter_names = (
                ", ".join(sorted({key for attack, _ in attacks for key in attack.choices})) or "none"
            )
            raise UsageError(
                f"none of the attacks {attack_names} has a parameter '{key}'; their parameters: {parameter_names}"
            )
    settings = []
    for attack, attack_params in attacks:
        # --param names one parameter for all attacks of the command; each takes those it has
        own_params = {key: value for key, value in values.items() if key in attack.parameters}
        settings += expand_attack(
            attack,
            phi=phi if attack.sweeps == "phi" else (),
            steps=steps if attack.sweeps == "steps" else (),
            params={**own_params, **attack_params},
            large_phi=large_phi,
        )
    return tuple(settings)


def _parse_params(texts: Sequence[str]) -> dict[str, str]:
    pairs = []
    for text in texts:
        match = _PARAM.fullmatch(text)
        if not match:
            raise UsageError(f"--param must be name=value, e.g. neighbours=4; found '{text}'")
        pairs.append((match[1], match[2]))
    return named_once("--param", pairs)
