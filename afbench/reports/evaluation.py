"""An evaluation as text, CSV and LaTeX, in the layout of the ANSM paper's Table III: a row per source and attack."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from .latex import booktabs, escape, number
from .paper import ATTACKS, LOCALIZERS, SOURCES
from .tables import figure, rp_figure
from .text import fold_line, text_table

_NAMES = {
    **ATTACKS,
    "worst-case": "worst case per image",
    "noise": "random noise",
    "all-ones": "all-ones mask",
    "authentic": "authentic (FPR %)",
}
_COLUMNS = ("model", "dataset", "attack", "defence", "knowledge", "f1", "rp", "fpr")
_IDENTITY = ("localizer", "architecture", "weights_sha256")
_INTERVALS = ("f1_low", "f1_high", "rp_low", "rp_high")

_TRAINED = r"(ansm|nrp)(-[0-9a-f]{6})?"

AFTER = "after "
"""Begins a column of images after a step of posting."""

Record = Mapping[str, Any]
Original: TypeAlias = tuple[float | None, float | None]
"""F1 on the originals of a source, of the bare localizer and of all-ones masks."""


class Column(NamedTuple):
    """A pair of columns, F1 and RP: one defence, against attacks that know it or not."""

    defence: str
    knowledge: str


def columns_of(records: Sequence[Record]) -> list[Column]:
    """List the bare localizer, then each defence, oblivious and adaptive, as far as they were measured."""
    columns = list(dict.fromkeys(Column(record["defence"], record["knowledge"]) for record in records))
    defences = list(dict.fromkeys(column.defence for column in columns))
    return sorted(
        columns,
        key=lambda column: (
            column.defence != "none",
            defences.index(column.defence),
            column.knowledge == "adaptive",
        ),
    )


def evaluation_table(records: Sequence[Record], width: int | None = None) -> str:
    """Draw a table of aligned text per localizer: F1, and RP in percent of the bare localizer's F1 on the originals.

    ``-`` where nothing was measured; behind RP ``!`` where F1 on the originals is below that of all-ones masks.
    """
    return "\n\n".join(_table(rows, width) for rows in _grouped(records, "localizer").values())


def _table(records: Sequence[Record], width: int | None) -> str:
    head, *body = evaluation_cells(records)
    table = text_table(head, body, column_groups=(1, *[2] * len(columns_of(records))), width=width)
    lines = [_identity(records[0]), *_notes(records)]
    return "\n".join([table, *(fold_line(line, width) for line in lines)])


def evaluation_cells(records: Sequence[Record]) -> list[list[str]]:
    """Return the table of one localizer as rows of texts, the head first: source, attack, images, then F1 and RP of every side."""
    columns = columns_of(records)
    table = [["source", "attack", "images"]]
    for column in columns:
        table[0] += [f"{_title(column)} F1", "RP %"]
    originals = originals_of(records)
    for (source, attack), cells in _rows(records).items():
        images = max(cell["images"] for cell in cells.values())
        table.append([source, attack_title(attack), str(images)])
        for column in columns:
            table[-1] += _cells(cells.get(column), attack, originals.get(source, (None, None)))
    return table


def _title(column: Column) -> str:
    if column.knowledge != "adaptive":
        return column.defence
    # a step of posting is no defence, so an attack on it is called by its option
    return (
        f"--through-post {column.defence.removeprefix(AFTER)}"
        if column.defence.startswith(AFTER)
        else "adaptive"
    )


def originals_of(records: Sequence[Record]) -> dict[str, Original]:
    """Return F1 of one bare localizer on the originals of each source, and that of masks that call every pixel forged."""
    f1 = {
        (record["source"], record["attack"]): record["f1"]
        for record in records
        if record["defence"] == "none"
    }
    return {
        source: (f1[source, "clean"], f1.get((source, "all-ones")))
        for source, attack in f1
        if attack == "clean"
    }


def _grouped(records: Sequence[Record], key: str) -> dict[str, list[Record]]:
    """Group records by the value of a key, in order."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record[key], []).append(record)
    return groups


def _identity(record: Record) -> str:
    """Say what a localizer is, and what the benchmark's configs call it."""
    weights = str(record.get("weights_sha256", ""))[:12] or "unknown"
    return f"localizer '{record['localizer']}': network {record.get('architecture') or 'unknown'}, weights {weights}"


def _printed(record: Record) -> str:
    """Name a network as the paper prints it, with its label where that is another name."""
    label, architecture = str(record["localizer"]), str(record.get("architecture") or "")
    if not architecture:
        return label
    name = LOCALIZERS.get(architecture, architecture)
    return name if label == architecture else f"{name} '{label}'"


def evaluation_csv(records: Sequence[Record]) -> str:
    """Write one row per source, attack and side, named as the paper names them; empty where undefined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [*_COLUMNS, *_INTERVALS, "images", "settings", "seen_in_training", *_IDENTITY, "finds_nothing"]
    )
    for record in records:
        ends = [end for name in ("f1_ci", "rp_ci") for end in (record[name] or (None, None))]
        writer.writerow(
            [
                _printed(record),
                SOURCES.get(record["source"], record["source"]),
                attack_title(record["attack"]).partition(" (")[0],
                record["defence"],
                record["knowledge"],
                *(_plain(record[name]) for name in ("f1", "rp", "fpr")),
                *map(_plain, ends),
                record["images"],
                record["settings"],
                str(record["seen_in_training"]).lower(),
                *(record.get(key, "") for key in _IDENTITY),
                str(bool(record.get("finds_nothing"))).lower(),
            ]
        )
    return stream.getvalue()


def evaluation_latex(records: Sequence[Record], notes: Sequence[str] = ()) -> str:
    """Write one booktabs ``tabular`` for all localizers: the rows of ``evaluation_table``, a pair of columns for each side."""
    localizers = _grouped(records, "localizer")
    families = _families(localizers)
    renamed = [
        {**record, "defence": families.get(record["defence"], record["defence"])} for record in records
    ]
    columns, several = columns_of(renamed), len(localizers) > 1
    titles = [
        "without"
        if column.defence == "none"
        else column.defence
        if column.knowledge == "oblivious"
        else f"{column.defence}, adaptive"
        for column in columns
    ]
    labels = ["Localizer"] * several + ["Dataset", "Attack"]
    head = [
        " & ".join([*[""] * len(labels), *(f"\\multicolumn{{2}}{{c}}{{{escape(name)}}}" for name in titles)])
        + " \\\\",
        " & ".join([*labels, *(["F1", "RP"] * len(columns))]) + " \\\\",
    ]
    blocks = [
        _latex_block(rows, columns, several)
        for rows_of_one in _grouped(renamed, "localizer").values()
        for rows in _grouped(rows_of_one, "source").values()
    ]
    comments = [
        "F1, and RP in percent of the bare localizer's F1 on the originals; needs \\usepackage{booktabs}",
        *(_identity(rows[0]) for rows in localizers.values()),
        *(f"{label} is {name}" for label, name in families.items()),
        *notes,
    ]
    return booktabs("l" * len(labels) + "rr" * len(columns), head, blocks, comments)


def _families(localizers: Mapping[str, Sequence[Record]]) -> dict[str, str]:
    """Name trained defences by kind instead of by hash, where several localizers have one of each kind at most."""
    kinds: dict[str, str] = {}
    for records in localizers.values() if len(localizers) > 1 else ():
        labels = {record["defence"]: record["defence"].partition("-")[0] for record in records}
        trained = {label: kind for label, kind in labels.items() if re.fullmatch(_TRAINED, label)}
        if len(set(trained.values())) < len(trained):
            return {}
        kinds |= trained
    return {label: kind for label, kind in kinds.items() if label != kind}


def _latex_block(records: Sequence[Record], columns: Sequence[Column], several: bool) -> list[list[str]]:
    block: list[list[str]] = []
    originals = originals_of(records)
    for (source, attack), cells in _rows(records).items():
        labels = [SOURCES.get(source, source)]
        if several:
            labels.insert(0, _printed(records[0]))
        row = [escape(label) if not block else "" for label in labels] + [escape(attack_title(attack))]
        for column in columns:
            row += map(number, _cells(cells.get(column), attack, originals.get(source, (None, None))))
        block.append(row)
    return block


def _rows(records: Sequence[Record]) -> dict[tuple[str, str], dict[Column, Record]]:
    rows: dict[tuple[str, str], dict[Column, Record]] = {}
    for record in records:
        cell = rows.setdefault((record["source"], record["attack"]), {})
        cell[Column(record["defence"], record["knowledge"])] = record
    return rows


def _cells(record: Record | None, attack: str, original: Original) -> list[str]:
    if record is None:
        return ["-", "-"]
    if attack == "authentic":
        return [figure(None if record["fpr"] is None else 100 * record["fpr"], 1), "-"]
    return [figure(record["f1"], 3), rp_figure(record["rp"], *original)]


def _notes(records: Sequence[Record]) -> list[str]:
    """Say where two columns of a row are not means over the same settings, and which attacks a training has seen."""
    notes = []
    for (source, attack), cells in _rows(records).items():
        settings = max(cell["settings"] for cell in cells.values())
        for column, cell in cells.items():
            if attack != "all-ones" and cell["settings"] < settings:
                notes.append(
                    f"note: {source} {attack_title(attack)}, {column.defence} {column.knowledge}: "
                    f"{cell['settings']} of {settings} settings"
                )
    pairs = sorted(
        {
            (str(record["defence"]), str(record["attack"]))
            for record in records
            # the worst case is no attack of its own
            if record["seen_in_training"] and record["attack"] != "worst-case"
        }
    )
    return notes + [
        f"note: {defence} saw {attack_title(attack)} in its training, at this or another setting"
        for defence, attack in pairs
    ]


def attack_title(attack: str) -> str:
    """Return what tables call an attack or a control."""
    return _NAMES.get(attack, attack)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
