"""Check names and texts from files that anybody may have made."""

from __future__ import annotations

import re

from afbench.core import AfbenchError

LONGEST_NAME = 250
"""Bytes of a name: with a suffix it is still the name of a file."""

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and new line; with them an escape sequence begins
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e0fff"  # order, no width
    "\ud800-\udfff]"  # no character at all: a file's name that is no Unicode
)


def is_name(value: object) -> bool:
    """Return whether a config, split, localizer or sample may have this name: letters, digits, dot, dash, underscore."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and value not in (".", "..")


def require_name(label: str, value: object) -> None:
    """Refuse what is no name, before a path or a message is made of it.

    Raises:
        AfbenchError: with the start of the value, in ASCII.
    """
    if not is_name(value):
        raise AfbenchError(
            f"{label} {quoted(value)} is no name: 1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores"
        )


def quoted(value: object) -> str:
    """Quote a value for a message: in ASCII, escaped and cut."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def visible(text: str) -> str:
    r"""Escape every character that a terminal obeys instead of showing: colours, cursor, order of writing.

    The form is JSON's ``\u001b``, so that JSON stays valid JSON.
    """
    return _INVISIBLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
