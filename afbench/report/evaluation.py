"""An evaluation as text, CSV and LaTeX, in the layout of the ANSM paper's Table III: a row per source and attack."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .paper import ATTACKS, LOCALIZERS, SOURCES
from .tables import figure
from .text import fold_line, text_table

_NAMES = {
    **ATTACKS,
    "noise": "random noise",
    "all-ones": "all-ones mask",
    "authentic": "authentic (FPR %)",
}
_COLUMNS = ("model", "dataset", "attack", "defence", "knowledge", "f1", "rp", "fpr")
_INTERVALS = ("f1_low", "f1_high", "rp_low", "rp_high")
_SPECIAL = {one: f"\\{one}" for one in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}

Record = Mapping[str, Any]


class Column(NamedTuple):
    """A pair of columns, F1 and RP: one defence, against attacks that know it or not."""

    defence: str
    knowledge: str


def columns_of(records: Sequence[Record]) -> list[Column]:
    """The bare localizer, then each defence twice, oblivious and adaptive, whether the latter was measured or not."""
    defences = list(dict.fromkeys(record["defence"] for record in records))
    defences.sort(key=lambda name: name != "none")
    return [
        Column(name, knowledge)
        for name in defences
        for knowledge in (("oblivious",) if name == "none" else ("oblivious", "adaptive"))
    ]


def evaluation_table(records: Sequence[Record], width: int | None = None) -> str:
    """Aligned text: F1 and RP in percent of the bare localizer's F1 on the originals; ``-`` where nothing was measured."""
    columns = columns_of(records)
    head = ["source", "attack", "images"]
    for column in columns:
        told = "adaptive" if column.knowledge == "adaptive" else column.defence
        head += [f"{told} F1", "RP %"]
    body = []
    for (source, attack), cells in _rows(records).items():
        images = max(cell["images"] for cell in cells.values())
        body.append([source, _name(attack), str(images)])
        for column in columns:
            body[-1] += _cells(cells.get(column), attack)
    table = text_table(head, body, together=(1, *[2] * len(columns)), width=width)
    return "\n".join([table, *(fold_line(note, width) for note in _notes(records))])


def evaluation_csv(records: Sequence[Record]) -> str:
    """One row per source, attack and side, named as the paper names them; empty where undefined."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_INTERVALS, "images", "settings", "seen_in_training"])
    for one in records:
        ends = [end for name in ("f1_ci", "rp_ci") for end in (one[name] or (None, None))]
        writer.writerow(
            [
                LOCALIZERS.get(one["localizer"], one["localizer"]),
                SOURCES.get(one["source"], one["source"]),
                _name(one["attack"]).partition(" (")[0],
                one["defence"],
                one["knowledge"],
                *(_plain(one[name]) for name in ("f1", "rp", "fpr")),
                *map(_plain, ends),
                one["images"],
                one["settings"],
                str(one["seen_in_training"]).lower(),
            ]
        )
    return stream.getvalue()


def evaluation_latex(records: Sequence[Record]) -> str:
    """A booktabs ``tabular``: the rows of ``evaluation_table``, a pair of columns for each side."""
    columns = columns_of(records)
    told = [
        one.defence
        if one.defence != "none" and one.knowledge == "oblivious"
        else ("without" if one.defence == "none" else "adaptive")
        for one in columns
    ]
    lines = [
        f"% {records[0]['localizer'] if records else ''}: F1, and RP in percent; needs \\usepackage{{booktabs}}",
        "\\begin{tabular}{ll" + "rr" * len(columns) + "}",
        "\\toprule",
        " & ".join(["", "", *(f"\\multicolumn{{2}}{{c}}{{{_escape(name)}}}" for name in told)]) + " \\\\",
        " & ".join(["Dataset", "Attack", *(["F1", "RP"] * len(columns))]) + " \\\\",
    ]
    before = None
    for (source, attack), cells in _rows(records).items():
        if source != before:
            lines.append("\\midrule")
        shown = SOURCES.get(source, source) if source != before else ""
        row = [_escape(shown), _escape(_name(attack))]
        for column in columns:
            row += [cell.replace("-", "--") for cell in _cells(cells.get(column), attack)]
        lines.append(" & ".join(row) + " \\\\")
        before = source
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _rows(records: Sequence[Record]) -> dict[tuple[str, str], dict[Column, Record]]:
    found: dict[tuple[str, str], dict[Column, Record]] = {}
    for one in records:
        cell = found.setdefault((one["source"], one["attack"]), {})
        cell[Column(one["defence"], one["knowledge"])] = one
    return found


def _cells(record: Record | None, attack: str) -> list[str]:
    if record is None:
        return ["-", "-"]
    if attack == "authentic":
        return [figure(None if record["fpr"] is None else 100 * record["fpr"], 1), "-"]
    return [figure(record["f1"], 3), figure(record["rp"], 1)]


def _notes(records: Sequence[Record]) -> list[str]:
    """Where two columns of a row are not means over the same settings, and what a training has seen."""
    notes = []
    for (source, attack), cells in _rows(records).items():
        most = max(cell["settings"] for cell in cells.values())
        for column, cell in cells.items():
            if attack != "all-ones" and cell["settings"] < most:
                notes.append(
                    f"note: {source} {_name(attack)}, {column.defence} {column.knowledge}: "
                    f"{cell['settings']} of {most} settings"
                )
    seen = sorted({f"{one['defence']}: {one['attack']}" for one in records if one["seen_in_training"]})
    return notes + [f"note: seen in training of {one}" for one in seen]


def _name(attack: str) -> str:
    return _NAMES.get(attack, attack)


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(one, one) for one in text)
