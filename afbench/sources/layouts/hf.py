"""A folder of Parquet files, or of ``Dataset.save_to_disk``, with a column of images and one of masks.

Every row is a sample; its image and mask are cells of the table (``table_cells``), with the bytes of a picture's file in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from afbench.core import UsageError
from afbench.sources.sample_names import relative_stem, sample_id
from afbench.sources.source_entry import Label, SourceEntry
from afbench.sources.table_cells import TableCell

EXPECTS = (
    "a folder of Parquet files or of Dataset.save_to_disk, as hf:PATH?image=COLUMN&mask=COLUMN or "
    "hf:PATH?image=COLUMN&mask=COLUMN&label=COLUMN"
)
STATE = "state.json"
_READABLE = ("image", "binary")
_AUTHENTIC = frozenset(
    ["authentic", "real", "original", "pristine", "genuine", "untouched", "negative", "au", "0", "false"]
)
_FORGED = frozenset(
    [
        "forged",
        "fake",
        "tampered",
        "manipulated",
        "edited",
        "spliced",
        "forgery",
        "inpainted",
        "positive",
        "tp",
        "1",
        "true",
    ]
)


class TableRoot(NamedTuple):
    """What a user's root says: a folder, and the columns of images, masks and, if any, labels."""

    folder: str
    image: str
    mask: str
    label: str | None


def parse_root(root: str) -> TableRoot:
    """Read ``PATH?image=COLUMN&mask=COLUMN&label=COLUMN``; omitted, image and mask are called so, and there is no label.

    Raises:
        UsageError: for another key, a key given twice or without a value.
    """
    folder, mark, query = root.rpartition("?")
    if not mark or "=" not in query:
        return TableRoot(root, "image", "mask", None)
    pairs = parse_qsl(query, keep_blank_values=True)
    columns = dict(pairs)
    if columns.keys() - {"image", "mask", "label"} or len(columns) < len(pairs) or not all(columns.values()):
        raise UsageError(f"source hf: {query!a} must name columns as image=COLUMN&mask=COLUMN&label=COLUMN")
    return TableRoot(folder, columns.get("image", "image"), columns.get("mask", "mask"), columns.get("label"))


def table_files(paths: Sequence[str], read_text: Callable[[str], str]) -> list[str]:
    """Choose the tables among the files below a root: those that ``Dataset.save_to_disk`` lists, else all of one kind.

    Raises:
        UsageError: if a list of ``save_to_disk`` is damaged, or there are tables of both kinds.
    """
    tables = [path for path in paths if path.lower().endswith((".parquet", ".arrow"))]
    kinds = {path.lower().rpartition(".")[2] for path in tables}
    if len(kinds) > 1:
        raise UsageError(
            "source hf: tables of two kinds, .arrow and .parquet, are in one folder; give the folder of one"
        )
    # a folder of save_to_disk may also hold tables that datasets keeps as a cache
    states = [path for path in paths if path.rpartition("/")[2] == STATE] if kinds == {"arrow"} else []
    if not states:
        return tables
    listed = {
        f"{path[: -len(STATE)]}{name}" for path in states for name in _listed_names(path, read_text(path))
    }
    return [path for path in tables if path in listed]


def _listed_names(path: str, text: str) -> list[str]:
    try:
        return [str(row["filename"]) for row in json.loads(text)["_data_files"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UsageError(f"source hf: {path!a} lists no files as Dataset.save_to_disk does") from None


def table_entries(file: str, table: Mapping[str, Any], root: TableRoot) -> list[SourceEntry]:
    """Make an entry of every row of a table, as ``table_cells.scan_table`` describes it.

    Raises:
        UsageError: if it lacks a column, or one holds something else.
    """
    columns = table["columns"]
    for role, name in (("image", root.image), ("mask", root.mask)):
        if columns.get(name) not in _READABLE:
            problem = f"{columns[name]} in column {name!a}" if name in columns else f"no column {name!a}"
            raise UsageError(
                f"source hf: {file!a} has {problem}, expected {role}s as bytes; its columns: {_described(columns)}; choose with "
                "hf:PATH?image=COLUMN&mask=COLUMN"
            )
    if root.label is not None and root.label not in columns:
        raise UsageError(
            f"source hf: {file!a} has no column {root.label!a}; its columns: {_described(columns)}"
        )
    labels = table["labels"] or [None] * len(table["has_mask"])
    return [
        _entry(file, row, has_mask, _label(file, value, table["label_names"]) if root.label else None, root)
        for row, (has_mask, value) in enumerate(zip(table["has_mask"], labels, strict=True))
    ]


def _described(columns: Mapping[str, str]) -> str:
    shown = [f"{ascii(name)[1:-1]} ({kind})" for name, kind in list(columns.items())[:20]]
    return ", ".join(shown) + (f" and {len(columns) - 20} more" if len(columns) > 20 else "") or "none"


def _label(file: str, value: int | str | None, names: Sequence[str] | None) -> Label | None:
    """Tell what a label says; a name decides before a number, whose meaning its names may turn round."""
    if value is None:
        return None
    if isinstance(value, int) and names is not None and 0 <= value < len(names):
        value = names[value]
    # datasets writes -1 where nobody knows
    if isinstance(value, int) and value >= 0:
        return "forged" if value > 0 else "authentic"
    word = str(value).strip().lower()
    if word in _AUTHENTIC:
        return "authentic"
    if word in _FORGED:
        return "forged"
    raise UsageError(
        f"source hf: {file!a} has the label {str(value)[:40]!a}, which says neither forged nor authentic; expected 0 or 1, or words as "
        "real, authentic, fake, forged, tampered"
    )


def _entry(file: str, row: int, has_mask: bool, label: Label | None, root: TableRoot) -> SourceEntry:
    entry_id = sample_id(f"{relative_stem(file)}-{row:06d}")
    image, mask = (str(TableCell(file, column, row)) for column in (root.image, root.mask))
    # without a column of labels, a row without a mask is an image that nobody forged, as in a list
    label_of_mask: Label = "forged" if has_mask or root.label else "authentic"
    forged = (label or label_of_mask) == "forged"
    problem = "missing_mask" if forged and not has_mask else ""
    reason = "its label says forged, and it has no mask" if label else "it has neither a label nor a mask"
    masks = (mask,) if forged and has_mask else ()
    return SourceEntry(
        entry_id,
        image,
        masks,
        label=label or label_of_mask,
        group=entry_id,
        problem=problem,
        user_masks=True,
        detail=reason if problem else "",
    )
