"""The three ways lists of images and masks are written, told apart by their first line, to the pairs each may mean.

``image mask label`` (separated by spaces, label above 0 is forged), ``image,mask``, ``image,mask,label`` or
``image,mask,jpg`` (another copy of the image, not used), perhaps below a header ``image,mask``, and JSON ``[[image, mask], ...]``. ``None`` and ``Negative`` stand for no mask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import NamedTuple

from afbench.core import UsageError

NO_MASK = ("none", "negative")
MAX_READINGS = 100
"""A line that could be split in more ways is not tried."""

_LABEL = re.compile(r"[0-9]{1,9}")
_SPACED = re.compile(r"\S.*[ \t]\S+[ \t]+[0-9]{1,9}")
_HEADER = re.compile(r"\s*image\s*,\s*mask\s*(,.*)?", re.IGNORECASE)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""What JSON can write and no file can be named."""
_FORMS = "expected 'image mask label', 'image,mask[,jpg]' or JSON [[image, mask or \"Negative\"], ...]"


class Reading(NamedTuple):
    """One way to split a line; ``mask`` is None where the line says that there is none."""

    image: str
    mask: str | None


class Line(NamedTuple):
    """What a line may mean: its readings, and its label if it has one.

    ``certain``: the first reading stands even if its files are not there; otherwise only files can tell.
    """

    where: str
    readings: tuple[Reading, ...]
    certain: bool
    label: int | None


def read_lines(name: str, text: str) -> list[Line]:
    """Every line of a list, in order; empty lines are none.

    Raises:
        UsageError: naming the first line that is of no known form, or not of the form of the lines before it.
    """
    text = text.removeprefix("\ufeff")
    if name.lower().endswith(".json") or re.match(r"\s*\[\s*[\[\]]", text):
        return _json_entries(name, text)
    # str.splitlines would also split at characters that names may hold
    numbered = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1)]
    numbered = [(number, line) for number, line in numbered if line]
    if numbered and _HEADER.fullmatch(numbered[0][1]):
        numbered = numbered[1:]
    if not numbered:
        raise UsageError(f"list {name!r} is empty; {_FORMS}")
    number, first = numbered[0]
    if _SPACED.fullmatch(first):
        read: Callable[[str, str], Line | None] = _spaced
    elif "," in first:
        read = _comma
    else:
        raise UsageError(f"list {name!r} line {number}: {_FORMS}, found {first[:120]!r}")
    return [_required(name, f"line {number}", line, read) for number, line in numbered]


def _required(name: str, where: str, line: str, read: Callable[[str, str], Line | None]) -> Line:
    found = read(where, line)
    if found is None:
        form = "image mask label" if read is _spaced else "image,mask[,jpg]"
        raise UsageError(
            f"list {name!r} {where}: expected '{form}' as in its first line, found {line[:120]!r}"
        )
    return found


def _spaced(where: str, line: str) -> Line | None:
    if not _SPACED.fullmatch(line):
        return None
    pair, label = line.rsplit(maxsplit=1)
    gaps = list(re.finditer(r"[ \t]+", pair))
    readings = tuple(_reading(pair[: gap.start()], pair[gap.end() :]) for gap in gaps[:MAX_READINGS])
    return Line(where, readings if len(gaps) <= MAX_READINGS else (), len(gaps) == 1, int(label))


def _comma(where: str, line: str) -> Line | None:
    fields = line.split(",")
    if len(fields) < 2 or not all(field.strip() for field in fields[:2]):
        return None
    if len(fields) > MAX_READINGS // 2:
        return Line(where, (), certain=False, label=None)
    label = int(fields.pop()) if len(fields) > 2 and _LABEL.fullmatch(fields[-1].strip()) else None
    # the last field may be the other copy of the image, or belong to a mask's name that holds commas
    whole = [
        _reading(",".join(fields[:middle]), ",".join(fields[middle:end]))
        for end in (len(fields) - 1, len(fields))
        for middle in range(1, end)
    ]
    return Line(where, tuple(whole), certain=len(fields) <= 3, label=label)


def _json_entries(name: str, text: str) -> list[Line]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"list {name!r} line {error.lineno}: no JSON ({error.msg}); {_FORMS}") from None
    except (RecursionError, ValueError):
        raise UsageError(f"list {name!r}: no JSON that can be read; {_FORMS}") from None
    if not isinstance(found, list) or not found:
        raise UsageError(f"list {name!r} holds no list of pairs; {_FORMS}")
    return [_json_entry(name, number, entry) for number, entry in enumerate(found, start=1)]


def _json_entry(name: str, number: int, entry: object) -> Line:
    match entry:
        case [str(image), str(mask)] if image and mask and not _SURROGATE.search(image + mask):
            return Line(f"entry {number}", (_reading(image, mask),), certain=True, label=None)
    raise UsageError(
        f'list {name!r} entry {number}: expected [image, mask or "Negative"], found {str(entry)[:120]!r}'
    )


def _reading(image: str, mask: str) -> Reading:
    return Reading(image.strip(), None if mask.strip().lower() in NO_MASK else mask.strip())
