"""Translate what a user calls an attack into our name for it, or say what to use instead."""

from __future__ import annotations

from afbench.core import UsageError
from afbench.naming import did_you_mean, named_once, resolve_name, unknown_name

from .attacks import ATTACKS, BUILT_IN
from .catalogue import CLASSES, FAMILY, UNUSABLE, VERSION

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
"""Attacks of other libraries, and names that are no attack; those of torchattacks stand in UNUSABLE."""


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
    if name := resolve_name("attack", text, ATTACKS if text in ATTACKS else BUILT_IN):
        return name, {}
    if name := resolve_name("attack", text, _INSTEAD):
        raise UsageError(f"'{text}' is no attack of afbench: {_INSTEAD[name]}")
    if name := resolve_name("attack", text, CLASSES.values()):
        raise UsageError(f"attack '{text}' is one of {FAMILY}: --attack {FAMILY}:{name}")
    if name := resolve_name("attack", text, UNUSABLE):
        raise UsageError(f"attack '{text}' cannot be used on localizers: {UNUSABLE[name]}")
    raise unknown_name("attack", text, sorted(BUILT_IN), f", {FAMILY}:NAME")


def _of_catalogue(text: str, rest: list[str]) -> tuple[str, dict[str, str]]:
    known_names = ", ".join(sorted(CLASSES.values()))
    asked_name, *params = rest or [""]
    if not asked_name:
        raise UsageError(f"attack '{text}' lacks a name, as in torchattacks:TPGD; known names: {known_names}")
    if unusable_name := resolve_name("", asked_name, UNUSABLE):
        raise UsageError(
            f"attack '{FAMILY}:{unusable_name}' cannot be used on localizers: {UNUSABLE[unusable_name]}"
        )
    keys = {name: key for key, name in CLASSES.items()}
    name = resolve_name("", asked_name, keys)
    if name is None:
        suggestion = did_you_mean("", asked_name, keys)
        raise UsageError(
            f"{FAMILY} {VERSION} has no attack '{asked_name}'; {suggestion}known names: {known_names}"
        )
    pairs = []
    for param in params:
        key, equals, value = param.partition("=")
        if not equals or not key or not value:
            raise UsageError(f"attack '{text}': expected param=value, e.g. steps=20; found '{param}'")
        pairs.append((key, value))
    return keys[name], named_once(f"attack '{text}'", pairs)
