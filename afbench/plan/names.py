"""What a user calls an attack: our name for it, or what to use instead."""

from __future__ import annotations

from afbench.core import UsageError
from afbench.naming import did_you_mean, resolve_name, unknown_name

from .attacks import ATTACKS, OWN
from .catalogue import CLASSES, FAMILY, REFUSED, VERSION

_INSTEAD = {
    "clean": "the originals are always stored, as config clean",
    "ddn": "use --attack cw, which also looks for the least change",
    "fmn": "use --attack cw, which also looks for the least change",
    "uap": "it is made for a whole source, not for an image; use --attack pgd",
    "eot": "every attack takes the mean over draws where --through-defence names a random defence",
    "bpda": "--through-defence looks through what has no gradient by itself",
    "nes": "use --attack square, which also needs no gradient",
    "simba": "use --attack square, which also needs no gradient",
    "zoo": "use --attack square, which also needs no gradient",
    "jpeg": "it is a defence: `afbench list defences`",
    "blur": "it changes images without a network; see `afbench list defences`",
}
"""Attacks of other libraries, and what is no attack; those of torchattacks stand in REFUSED."""


def parse_attack(text: str) -> tuple[str, dict[str, str]]:
    """Read ``NAME`` or ``torchattacks:NAME[:param=value...]`` into our name and the parameters given.

    Names are taken in any case and by common aliases: ``C&W``, ``MI-FGSM``.

    Raises:
        UsageError: for an unknown attack, with what to use instead where that is known, or a parameter that is not
            ``name=value``.
    """
    family, *rest = text.split(":")
    if family.lower() == FAMILY:
        return _of_catalogue(text, rest)
    if name := resolve_name("attack", text, ATTACKS if text in ATTACKS else OWN):
        return name, {}
    if name := resolve_name("attack", text, _INSTEAD):
        raise UsageError(f"'{text}' is no attack of afbench: {_INSTEAD[name]}")
    if name := resolve_name("attack", text, CLASSES.values()):
        raise UsageError(f"attack '{text}' is one of {FAMILY}: --attack {FAMILY}:{name}")
    if name := resolve_name("attack", text, REFUSED):
        raise UsageError(f"attack '{text}' cannot be used on localizers: {REFUSED[name]}")
    raise unknown_name("attack", text, sorted(OWN), f", {FAMILY}:NAME")


def _of_catalogue(text: str, rest: list[str]) -> tuple[str, dict[str, str]]:
    known = ", ".join(sorted(CLASSES.values()))
    wanted, *params = rest or [""]
    if not wanted:
        raise UsageError(f"attack '{text}' lacks a name, as in torchattacks:TPGD; known names: {known}")
    if refused := resolve_name("", wanted, REFUSED):
        raise UsageError(f"attack '{FAMILY}:{refused}' cannot be used on localizers: {REFUSED[refused]}")
    keys = {name: key for key, name in CLASSES.items()}
    name = resolve_name("", wanted, keys)
    if name is None:
        meant = did_you_mean("", wanted, keys)
        raise UsageError(f"{FAMILY} {VERSION} has no attack '{wanted}'; {meant}known names: {known}")
    given: dict[str, str] = {}
    for param in params:
        key, equals, value = param.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"attack '{text}': expected param=value, e.g. steps=20; found '{param}'")
        if key in given:
            raise UsageError(f"attack '{text}' gives parameter {key} twice")
        given[key] = value
    return keys[name], given
