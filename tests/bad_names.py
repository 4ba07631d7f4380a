"""Names that are none, for the tests of everything that opens a stranger's file."""

import re

BAD_NAMES = {
    "empty": "",
    "here": ".",
    "above": "..",
    "a path": "a/b",
    "absolute": "/etc/passwd",
    "out of the folder": "../../outside",
    "a drive": "C:\\x",
    "a space": "a b",
    "a new line": "a\nb",
    "a new line at its end": "clean\n",
    "a colour": "\x1b[31mred\x1b[0m",
    "the title of the window": "\x1b]0;mine\x07",
    "an escape of one byte": "\x9b2J",
    "a backspace": "a\x7fb",
    "the other direction": "a\u202eb",
    "no width": "a\u200bb",
    "NUL": "a\0b",
    "no character": "a\udcffb",
    "too long": "x" * 300,
}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal obeys instead of showing it."""
