"""Turn what a user writes (``1/255``, ``250``) into settings with names and all parameters filled in."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from afbench.core import Setting, UsageError
from afbench.naming import unknown_name

from .attack_spec import Attack
from .attacks import ATTACKS, BUILT_IN
from .ensemble import GRADIENTS
from .params import iterations, resolve_params

LARGE_PHI = Fraction(1, 10)
MOST_STEPS = 100_000
_PHI = re.compile(r"[-+]?[0-9.]{1,40}(e[-+]?[0-9]{1,2})?(/[0-9.]{1,20})?", re.IGNORECASE)
"""The numbers that ``Fraction`` may read: 1e-999999999 would keep it busy for hours."""
_STORED_PHI = re.compile(r"[0-9.]{1,99}(/[0-9]{1,99})?")


def make_setting(
    attack: str | Attack,
    value: str | float,
    params: Mapping[str, Any] | None = None,
    *,
    large_phi: bool = False,
) -> Setting:
    """Build one setting of an attack.

    Args:
        attack: a name from ``ATTACKS``, or a user's own attack.
        value: phi as a fraction or a number in units of [0, 1], or for cw the number of steps.
        params: parameters other than the defaults.
        large_phi: accept phi above 0.1.
    Raises:
        UsageError: for anything unknown or out of range, with what was expected.
    """
    if isinstance(attack, str) and attack not in ATTACKS:
        raise unknown_name("attack", attack, sorted(BUILT_IN), ", torchattacks:NAME")
    spec = ATTACKS[attack] if isinstance(attack, str) else attack
    try:
        resolved = resolve_params(spec, params or {})
    except ValueError as error:
        raise UsageError(str(error)) from None
    plain = resolved == resolve_params(spec, {})
    # another version of a user's own attack gets no other name, so that it is refused where the first has been
    versions = spec.fixed if spec.function else ()
    named_params = {name: value for name, value in resolved.items() if name not in versions}
    suffix = "" if plain else "-" + params_digest(named_params)
    if spec.sweeps == "steps":
        steps = parse_steps(value)
        return Setting(spec.name, f"{steps}{suffix}", None, steps, resolved)
    phi = parse_phi(value, large_phi=large_phi)
    # estimates count steps as gradients: noise takes none, and an ensemble has no steps of its own
    steps = {"noise": 0, "strong": GRADIENTS}.get(spec.name, iterations(resolved))
    user_attack = None if spec.function is None else spec
    return Setting(spec.name, phi_label(phi) + suffix, phi, steps, resolved, user_attack)


def parse_phi(value: str | float, *, large_phi: bool = False) -> Fraction:
    """Read an L-inf radius in units of [0, 1]: ``1/255``, ``1.5/255``, ``0.01``.

    Raises:
        UsageError: if it is not a number, below 1/255 (nothing survives 8 bits), above 1, or above 0.1 without
            ``large_phi``.
    """
    text = str(value).replace(" ", "")
    try:
        top, _, bottom = text.partition("/")
        phi = Fraction(top) / Fraction(bottom or 1) if _PHI.fullmatch(text) else None
    except (ValueError, ZeroDivisionError):
        phi = None
    if phi is None:
        raise UsageError(f"phi must be a number such as 1/255 or 0.01; found '{value}'")
    if not 0 < phi <= 1:
        suggestion = f"did you mean {value}/255? " if 1 < phi <= 255 and "/" not in text else ""
        raise UsageError(
            f"phi must be above 0 and at most 1 (the range of pixels is [0, 1]); {suggestion}found '{value}'"
        )
    if max_levels(phi) == 0:  # not phi < 1/255: the float 1 / 255 lies below it
        raise UsageError(f"phi must be at least 1/255, one level of an 8-bit image; found '{value}'")
    if phi > LARGE_PHI and not large_phi:
        suggestion = f"{value}/255" if phi.denominator == 1 else "one of 1/255, 2/255, 3/255"
        raise UsageError(
            f"phi {value} is visible to anyone; did you mean {suggestion}? --large-phi runs it anyway"
        )
    return phi


def stored_phi(text: str | None) -> Fraction | None:
    """Read phi from a manifest: ``1/255``, or None without a bound.

    Raises:
        ValueError: if it is no fraction from 0 to 1; a huge number takes no longer to refuse.
    """
    if text is None:
        return None
    if not isinstance(text, str) or not _STORED_PHI.fullmatch(text) or not 0 <= (phi := Fraction(text)) <= 1:
        raise ValueError(f"phi {ascii(text)[:60]} is no fraction from 0 to 1")
    return phi


def parse_steps(value: str | float) -> int:
    """Read C&W's number of steps.

    Raises:
        UsageError: if it is not a whole number from 1 to 100,000.
    """
    try:
        steps = int(str(value))
    except ValueError:
        steps = 0
    if not 1 <= steps <= MOST_STEPS:
        raise UsageError(f"steps must be a whole number from 1 to {MOST_STEPS}; found '{value}'")
    return steps


def max_levels(phi: Fraction | None) -> int | None:
    """Compute the L-inf bound of a stored image in whole 8-bit levels, floor(255 phi + 1e-3); None without a bound."""
    return None if phi is None else math.floor(float(255 * phi) + 1e-3)


def phi_label(phi: Fraction) -> str:
    """Name phi in 255ths: 1/255 is ``1``, 1.5/255 is ``1p5``."""
    return f"{float(255 * phi):.4f}".rstrip("0").rstrip(".").replace(".", "p")


def params_digest(params: Mapping[str, Any]) -> str:
    """Name a set of parameters by six hex digits.

    They depend on the parameters alone, not on the whole config hash: so the same settings have the same name for every
    localizer, and a plan can name its configs before any weights exist.
    """
    return hashlib.sha256(canonical_json(dict(params)).encode()).hexdigest()[:6]


def canonical_json(value: Any) -> str:
    """Write JSON with sorted keys and no spaces: the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def config_name(localizer: str, setting: Setting) -> str:
    """Name a config ``<localizer>-<attack>-<setting>``, as ``load_dataset`` takes it."""
    return f"{localizer}-{setting.attack}-{setting.label}"
