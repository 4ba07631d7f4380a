"""Parse lists of images and masks in any of their forms, which the first line tells, into the pairs a line may mean.

``image mask`` or ``image mask label`` (separated by spaces or tabs, label above 0 is forged), ``image,mask``,
``image,mask,label`` or ``image,mask,jpg`` (another copy of the image, not used) with fields in quotes or not, and JSON
``[[image, mask], ...]``. A header line may name the columns; they may then have any order, with other columns between them.
``None`` and ``Negative`` stand for no mask.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from afbench.core import UsageError
from afbench.sources.sample_names import SUFFIXES

from .list_header import Columns, read_header

NO_MASK = ("none", "negative")
MAX_READINGS = 100
"""A line that can be split in more ways is not read."""

_LABEL = re.compile(r"[0-9]{1,9}")
_SPACED = re.compile(r"\S.*[ \t]\S+[ \t]+[0-9]{1,9}")
_NAME = "|".join(map(re.escape, (*SUFFIXES, ".npz")))
_PAIR = re.compile(rf".*({_NAME})[ \t]+(.*({_NAME})|none|negative)", re.IGNORECASE)
_QUOTED = re.compile(r'(^|,)\s*"')
_SURROGATE = re.compile(r"[\ud800-\udfff]")
"""Code points that JSON can write and no file name can hold."""
_FORMS = "expected 'image mask [label]', 'image,mask[,jpg]' or JSON [[image, mask or \"Negative\"], ...]"


class Reading(NamedTuple):
    """One way to split a line; ``mask`` is None where the line says that there is none."""

    image: str
    mask: str | None


class ListLine(NamedTuple):
    """A line of a list: its possible readings, and its label if it has one.

    ``position`` names the line in messages. ``certain``: the first reading counts even if its files do not exist;
    otherwise the files decide.
    """

    position: str
    readings: tuple[Reading, ...]
    certain: bool
    label: int | None


_ReadListLine = Callable[[str, str], ListLine | None]


def read_lines(name: str, text: str) -> list[ListLine]:
    """Parse the lines of a list in order; skip empty ones.

    Raises:
        UsageError: for the first line of an unknown form, or of another form than the lines before it.
    """
    text = text.removeprefix("\ufeff")
    if name.lower().endswith(".json") or re.match(r"\s*\[\s*[\[\]]", text):
        return _json_entries(name, text)
    # str.splitlines would also split at characters that names may hold
    lines = enumerate(re.split(r"\r\n|\n|\r", text), start=1)
    numbered_lines = [(number, line.strip(" ")) for number, line in lines if line.strip()]
    columns = read_header(name, _split(numbered_lines[0][1])) if numbered_lines else None
    separator = _separator(numbered_lines[0][1]) if columns else None
    if separator != "\t":  # there a first field may be empty
        numbered_lines = [(number, line.strip()) for number, line in numbered_lines]
    header = numbered_lines.pop(0)[1] if columns else ""
    if not numbered_lines:
        raise UsageError(f"list {name!r} is empty; {_FORMS}")
    if columns:
        read_line: _ReadListLine = partial(_row, columns, separator)
        form = header.strip()[:120]
    else:
        read_line, form = _form_of(name, *numbered_lines[0])
    return [_read_list_line(name, f"line {number}", line, read_line, form) for number, line in numbered_lines]


def _form_of(name: str, number: int, first: str) -> tuple[_ReadListLine, str]:
    """Return how to read a list without a header, told by its first line, and the name of that form."""
    if _SPACED.fullmatch(first):
        return _spaced, "image mask label"
    # a comma belongs to a name if the text before it is no file name
    first_field, comma, _ = first.partition(",")
    if _PAIR.fullmatch(first) and not (comma and first_field.lower().endswith(SUFFIXES)):
        return _paired, "image mask"
    if "," in first:
        return _comma, "image,mask[,jpg]"
    raise UsageError(f"list {name!r} line {number}: {_FORMS}, found {first[:120]!r}")


def _read_list_line(name: str, position: str, line: str, read_line: _ReadListLine, form: str) -> ListLine:
    parsed = read_line(position, line)
    if parsed is None:
        raise UsageError(
            f"list {name!r} {position}: expected '{form}' as in its first line, found {line[:120]!r}"
        )
    return parsed


def _separator(line: str) -> str | None:
    """Return the separator of a header: a comma or a tab if it has one, else None for spaces."""
    return next((separator for separator in (",", "\t") if separator in line), None)


def _split(line: str) -> list[str]:
    separator = _separator(line)
    return _fields(line, separator) if separator else line.split()


def _fields(line: str, separator: str) -> list[str]:
    """Split a line into fields, without their quotes where these are well-formed."""
    if '"' in line:
        try:
            return next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True))
        except (csv.Error, StopIteration):
            pass
    return line.split(separator)


def _row(columns: Columns, separator: str | None, position: str, line: str) -> ListLine | None:
    """Parse a line below a header; where unquoted names may hold separators, the files decide, as without a header."""
    fields = _fields(line, separator) if separator else line.split()
    plain: ListLine | None = None
    if columns.in_order and not (separator and _QUOTED.search(line)):
        spaced = _paired if columns.label is None else _spaced
        plain = _comma(position, line) if separator == "," else spaced(position, line)
    if len(fields) != columns.total:
        return plain
    image, mask = (fields[column].strip() for column in (columns.image, columns.mask))
    label = fields[columns.label].strip() if columns.label is not None else ""
    if not image or (columns.label is not None and not _LABEL.fullmatch(label)):
        return None
    if not mask and not label:  # it may be authentic, or its mask may be missing
        return None
    readings = [_reading(image, mask or NO_MASK[0]), *(plain.readings if plain else ())]
    return ListLine(
        position, tuple(dict.fromkeys(readings)), certain=True, label=int(label) if label else None
    )


def _spaced(position: str, line: str) -> ListLine | None:
    if not _SPACED.fullmatch(line):
        return None
    pair, label = line.rsplit(maxsplit=1)
    return _split_at_gaps(position, pair, int(label))


def _paired(position: str, line: str) -> ListLine | None:
    if not _PAIR.fullmatch(line):
        return None
    return _split_at_gaps(position, line, None)


def _split_at_gaps(position: str, pair: str, label: int | None) -> ListLine:
    """Split image from mask in every possible way: at the only tab, or else at any gap."""
    gaps = list(re.finditer(r" *\t *", pair) if pair.count("\t") == 1 else re.finditer(r"[ \t]+", pair))
    readings = tuple(_reading(pair[: gap.start()], pair[gap.end() :]) for gap in gaps[:MAX_READINGS])
    return ListLine(position, readings if len(gaps) <= MAX_READINGS else (), len(gaps) == 1, label)


def _comma(position: str, line: str) -> ListLine | None:
    quoted = bool(_QUOTED.search(line))
    fields = _fields(line, ",") if quoted else line.split(",")
    if len(fields) < 2 or not all(field.strip() for field in fields[:2]):
        return None
    if len(fields) > MAX_READINGS // 2:
        return ListLine(position, (), certain=False, label=None)
    label = int(fields.pop()) if len(fields) > 2 and _LABEL.fullmatch(fields[-1].strip()) else None
    if quoted:
        readings = [_reading(fields[0], fields[1])]
    else:
        # the last field may be another copy of the image, or the end of a mask's name that holds commas
        readings = [
            _reading(",".join(fields[:middle]), ",".join(fields[middle:end]))
            for end in (len(fields) - 1, len(fields))
            for middle in range(1, end)
        ]
    if len(fields) > 2 and _LABEL.fullmatch(fields[0].strip()):  # the first field may be the row's number
        readings.append(_reading(fields[1], fields[2]))
    return ListLine(position, tuple(dict.fromkeys(readings)), certain=quoted or len(fields) <= 3, label=label)


def _json_entries(name: str, text: str) -> list[ListLine]:
    try:
        pairs = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"list {name!r} line {error.lineno}: no JSON ({error.msg}); {_FORMS}") from None
    except (RecursionError, ValueError):
        raise UsageError(f"list {name!r}: no JSON that can be read; {_FORMS}") from None
    if not isinstance(pairs, list) or not pairs:
        raise UsageError(f"list {name!r} holds no list of pairs; {_FORMS}")
    return [_json_entry(name, number, entry) for number, entry in enumerate(pairs, start=1)]


def _json_entry(name: str, number: int, entry: object) -> ListLine:
    match entry:
        case [str(image), str(mask)] if image and mask and not _SURROGATE.search(image + mask):
            return ListLine(f"entry {number}", (_reading(image, mask),), certain=True, label=None)
    raise UsageError(
        f'list {name!r} entry {number}: expected [image, mask or "Negative"], found {str(entry)[:120]!r}'
    )


def _reading(image: str, mask: str) -> Reading:
    return Reading(image.strip(), None if mask.strip().lower() in NO_MASK else mask.strip())
