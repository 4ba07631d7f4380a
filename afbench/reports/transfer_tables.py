"""Attackers and victims as text, CSV and LaTeX: for each source and attack a row per attacker, columns for every victim."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .evaluation import attack_title
from .latex import booktabs, escape
from .tables import figure, rp_figure
from .text import fold_line, text_table

Record = Mapping[str, Any]
ORIGINAL = "clean"
NOBODY = "nobody"
"""The attacker of originals."""
_COLUMNS = ("source", "attack", "attacker", "victim", "access", "f1", "f1_low", "f1_high", "rp", "rp_low")
_MORE_COLUMNS = ("rp_high", "images", "settings", "undefined", "f1_original", "f1_all_ones", "finds_nothing")
_IDENTITY = (
    "attacker_architecture",
    "attacker_weights_sha256",
    "victim_architecture",
    "victim_weights_sha256",
)


class TransferRow(NamedTuple):
    """What the cells of a row have in common."""

    source: str
    attack: str
    attacker: str


def transfer_rows(records: Sequence[Record]) -> dict[TransferRow, dict[str, Record]]:
    """Group the records of ``transfer_records`` to rows; a cell by the name of its victim."""
    rows: dict[TransferRow, dict[str, Record]] = {}
    for record in records:
        row = TransferRow(record["source"], record["attack"], record["attacker"] or NOBODY)
        rows.setdefault(row, {})[record["victim"]] = record
    return rows


def victims_of(records: Sequence[Record]) -> list[str]:
    """List the victims in order."""
    return list(dict.fromkeys(record["victim"] for record in records))


def transfer_table(records: Sequence[Record], width: int | None = None) -> str:
    """Draw a matrix as aligned text for each source and attack: of every victim its access, F1 and RP in percent.

    RP is in percent of the victim's own F1 on the originals, which are the row of nobody. Intervals stand in brackets; behind
    RP ``!`` where that F1 is below that of all-ones masks.
    """
    matrices = []
    for matrix in transfer_grids(records):
        title, *columns = matrix[0]
        table = text_table(
            ["attacker", *columns],
            matrix[1:],
            labels=1,
            column_groups=[3] * (len(columns) // 3),
            width=width,
        )
        matrices.append(f"{title}\n{table}")
    identities = "\n".join(fold_line(line, width) for line in _identities(records))
    return "\n\n".join([*matrices, identities])


def transfer_grids(records: Sequence[Record]) -> list[list[list[str]]]:
    """Return a grid of texts for each source and attack: rows are attackers, the head begins with what the grid is of."""
    victims = victims_of(records)
    columns = [name for victim in victims for name in (f"on {victim}", "F1", "RP %")]
    rows = transfer_rows(records)
    grids = []
    for source, attack in dict.fromkeys((row.source, row.attack) for row in rows):
        if attack == ORIGINAL:
            continue
        matrix = [row for row in rows if row.source == source and row.attack in (ORIGINAL, attack)]
        body = [
            [row.attacker, *(cell for victim in victims for cell in _cells(rows[row].get(victim)))]
            for row in matrix
        ]
        grids.append([[f"{attack_title(attack)} on {source}", *columns], *body])
    return grids


def transfer_csv(records: Sequence[Record]) -> str:
    """Write one row per source, attack, attacker and victim; empty where undefined."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*_COLUMNS, *_MORE_COLUMNS, *_IDENTITY], lineterminator="\n")
    writer.writeheader()
    for record in records:
        ends = {}
        for name in ("f1", "rp"):
            ends[f"{name}_low"], ends[f"{name}_high"] = record[f"{name}_ci"] or (None, None)
        values = {**record, **ends}
        writer.writerow({name: _plain(values[name]) for name in writer.fieldnames})
    return stream.getvalue()


def transfer_latex(records: Sequence[Record]) -> str:
    """Write a booktabs ``tabular`` of the rows of ``transfer_table``, a block for every source and attack."""
    victims = victims_of(records)
    titles = " & ".join(f"\\multicolumn{{3}}{{c}}{{{escape(victim)}}}" for victim in victims)
    head = [
        f" &  &  & {titles} \\\\",
        " & ".join(["Dataset", "Attack", "Attacked", *["Access", "F1", "RP"] * len(victims)]) + " \\\\",
    ]
    blocks: dict[tuple[str, str], list[list[str]]] = {}
    for row, cells in transfer_rows(records).items():
        block = blocks.setdefault((row.source, row.attack), [])
        labels = [row.source, attack_title(row.attack)] if not block else ["", ""]
        figures = [cell for victim in victims for cell in _cells(cells.get(victim))]
        block.append([*map(escape, [*labels, row.attacker]), *map(_latex_cell, figures)])
    comments = [
        "columns: the localizer that judges; rows: the localizer whose gradients the attack used",
        "F1 and RP in percent of the judging localizer's F1 on the originals, 95 % intervals; needs \\usepackage{booktabs}",
        *_identities(records),
    ]
    return booktabs("lll" + "lrr" * len(victims), head, list(blocks.values()), comments)


def _cells(record: Record | None) -> list[str]:
    if record is None:
        return ["-", "-", "-"]
    rp = rp_figure(record["rp"], record["f1_original"], record["f1_all_ones"])
    return [
        record["access"] or ("originals" if record["attack"] == ORIGINAL else "control"),
        _with_interval(figure(record["f1"], 3), record["f1_ci"], 3),
        _with_interval(rp, record["rp_ci"], 0),
    ]


def _latex_cell(cell: str) -> str:
    return "--" if cell == "-" else escape(cell).replace("-", "--") if "(" in cell else escape(cell)


def _with_interval(value: str, ends: Sequence[float] | None, digits: int) -> str:
    if ends is None or value == "-":
        return value
    return f"{value} ({figure(ends[0], digits)}-{figure(ends[1], digits)})"


def _identities(records: Sequence[Record]) -> list[str]:
    """Say which networks the names stand for."""
    networks = {}
    for role in ("attacker", "victim"):
        for record in records:
            if name := record[role]:
                networks[name] = (record[f"{role}_architecture"], record[f"{role}_weights_sha256"])
    return [
        f"'{name}': network {architecture}, weights {weights[:12]}"
        for name, (architecture, weights) in networks.items()
    ]


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)
