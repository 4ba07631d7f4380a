"""Understand names as people write them: in any case, by a common alias, or nearly right. Stored names are the canonical ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from typing import TypeVar

from afbench.core import UsageError

Value = TypeVar("Value")
ALIASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "attack": {
        "bim": ("ifgsm", "iterativefgsm"),
        "pgd": ("pgdlinf", "linfpgd"),
        "mifgsm": ("mim", "momentumfgsm"),
        "cw": ("carliniwagner", "cwl2"),
        "noise": ("randomnoise", "random"),
        "square": ("squareattack",),
    },
    "localizer": {
        "reference": ("ref",),
        "mvss": ("mvssnet",),
        "ifosn": ("imageforensicsosn", "osn"),
        "hdfnet": ("hdf",),
        "pscc": ("psccnet",),
    },
    "source": {
        "columbia": ("columbiauncompressed",),
        "casia_v1": ("casia1", "casia10", "casiav10"),
        "casia_v1plus": ("casia1plus",),
        "casia_v2": ("casia2", "casia20", "casiav20"),
        "imd20": ("imd2020", "imd"),
        "nist16": ("nist", "nist2016", "nc16", "nc2016"),
        "dso1": ("dso",),
        "korus": ("realistictampering", "rtd"),
        "cocoglide": ("glide",),
        "folder": ("directory", "dir"),
        "synthetic": ("synth",),
    },
    "defence": {
        "none": ("bare",),
        "jpeg": ("jpg", "jpegcompression"),
        "random-resize-pad": ("randomresizing", "randomresizingpadding", "rrp"),
        "gaussian-noise": ("gaussian", "noise"),
        "median": ("medianfilter", "medianblur"),
        "bit-depth": ("bitdepthreduction", "bitreduction"),
        "tv": ("totalvariation", "tvm"),
    },
    "plan": {"ansm-table3": ("table3", "ansm")},
}
"""By kind and canonical name, in the form of ``_plain``."""
_NAME = re.compile(r"[\w .&+()-]*", re.ASCII)
"""A path or a setting is no name."""
_ALIKE = 0.6
"""Share of letters that two names have in common, in order, where one may be meant by the other."""


def resolve_name(kind: str, text: str, known_names: Iterable[str]) -> str | None:
    """Find the known name that a text means; None if it means none.

    >>> resolve_name("source", "CASIA v1.0", ["casia_v1", "casia_v2"])
    'casia_v1'
    """
    names = list(known_names)
    if text in names:
        return text
    return _spellings(kind, names).get(_plain(text)) if _NAME.fullmatch(text) else None


def closest_names(kind: str, text: str, known_names: Iterable[str]) -> list[str]:
    """Find up to three known names that a mistyped text may mean, the closest first."""
    plain_text = _plain(text)
    near = []
    for spelling, name in _spellings(kind, list(known_names)).items():
        likeness = SequenceMatcher(None, plain_text, spelling).ratio()
        reordered = sorted(plain_text) == sorted(spelling)
        if likeness >= _ALIKE or reordered:
            near.append((-likeness, not reordered, name))
    return list(dict.fromkeys(name for *_, name in sorted(near)))[:3]


def did_you_mean(kind: str, text: str, known_names: Iterable[str]) -> str:
    """Write ``did you mean pgd or pgn? `` with a space behind it; "" where no name is near."""
    near = closest_names(kind, text, known_names)
    return f"did you mean {' or '.join(near)}? " if near else ""


def unknown_name(kind: str, text: str, known_names: Iterable[str], ending: str = "") -> UsageError:
    """Make the error for an unknown name: what it may have meant, and the known names; ``ending`` ends their list."""
    names = list(known_names)
    suggestion = did_you_mean(kind, text, names)
    return UsageError(f"{kind} '{text}' is unknown; {suggestion}known {kind}s: {', '.join(names)}{ending}")


def _spellings(kind: str, names: list[str]) -> dict[str, str]:
    aliases = {alias: name for name in names for alias in ALIASES.get(kind, {}).get(name, ())}
    return aliases | {_plain(name): name for name in names}


def _plain(text: str) -> str:
    """Keep small letters and digits alone: MI-FGSM, C&W and CASIA_v1 become mifgsm, cw and casiav1; CASIAv1+ is casiav1plus."""
    return "".join(letter for letter in text.lower().replace("+", "plus") if letter.isalnum())


def named_once(giver: str, pairs: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Collect values by name; of two for one name the last would win without a word.

    Raises:
        UsageError: if a name comes twice; ``giver`` says who gives it.
    """
    values: dict[str, Value] = {}
    for name, value in pairs:
        if name in values:
            raise UsageError(f"{giver} gives {name} twice: {values[name]} and {value}; give it once")
        values[name] = value
    return values
