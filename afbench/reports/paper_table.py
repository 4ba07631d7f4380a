"""Write measured figures next to the ANSM paper's, as text and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .latex import booktabs, escape, number
from .paper import ATTACKS, LOCALIZERS, POOLED, SOURCES
from .tables import figure
from .text import fold_line, text_table

TABLES = ("III", "IV", "V", "VI")
_NOTHING = "nothing here was measured that the paper has printed"


def measured_records(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records that hold a measurement."""
    return [record for record in records if record["measured"] is not None]


def paper_table(
    records: Sequence[Mapping[str, Any]], notes: Sequence[str] = (), width: int | None = None
) -> str:
    """Draw the records as aligned text, one block per table of the paper that has any, then the notes."""
    blocks = []
    for table in TABLES:
        body = [_cells(record) for record in records if record["table"] == table]
        if not body:
            continue
        scope = "per source" if table == "III" else f"all images of {', '.join(POOLED)}"
        title = fold_line(f"Table {table}: {scope}, mean over intensities", width)
        blocks.append(f"{title}\n{text_table(_HEAD, body, column_groups=(3, 3, 1, 1, 1), width=width)}")
    if not blocks:
        blocks.append(_NOTHING)
    flagged = sum(record["contradictory"] for record in records)
    doubts = (
        [f"! {flagged} pairs where the paper contradicts itself; no difference is taken"] if flagged else []
    )
    blocks.append("\n".join(fold_line(note, width) for note in [*doubts, *notes]))
    return "\n\n".join(blocks).rstrip()


def paper_latex(records: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """Write the measured records as one booktabs ``tabular``: printed and measured F1 and RP side by side."""
    measured = measured_records(records)
    several = len({record["measured"]["by"] for record in measured}) > 1
    blocks: dict[tuple[str, str, str], list[list[str]]] = {}
    for record in measured:
        block = blocks.setdefault((record["table"], record["localizer"], record["source"]), [])
        block.append(_latex_row(record, first=not block, several=several))
    labels = ["Table", "Localizer", "Dataset", "Defence", "Attack"]
    head = [
        " & ".join([""] * len(labels) + ["\\multicolumn{2}{c}{F1}", "\\multicolumn{2}{c}{RP}"])
        + " & " * several
        + " \\\\",
        " & ".join([*labels, *(["paper", "measured"] * 2), *(["Measured by"] * several)]) + " \\\\",
    ]
    comments = [
        "F1, and RP in percent, as the ANSM paper (arXiv 2506.12871) prints them and as measured; needs \\usepackage{booktabs}",
        *([] if measured else [_NOTHING]),
        *notes,
    ]
    return booktabs("lllllrrrr" + "l" * several, head, list(blocks.values()), comments)


def _latex_row(record: Mapping[str, Any], *, first: bool, several: bool) -> list[str]:
    measured, mark = record["measured"], "$^{!}$" * record["contradictory"]
    source = SOURCES.get(record["source"], "pooled")
    labels = [record["table"], LOCALIZERS[record["localizer"]], source] if first else ["", "", ""]
    return [
        *map(escape, [*labels, _defence_of(record), ATTACKS[record["attack"]]]),
        figure(record["f1"], 3) + mark,
        number(figure(measured["f1"], 3)),
        figure(record["rp"], 1) + mark,
        number(figure(measured["rp"], 1)),
        *([escape(measured["by"])] * several),
    ]


def _defence_of(record: Mapping[str, Any]) -> str:
    return str(record["variant"] or ("with ANSM" if record["defended"] else "without"))


_HEAD = (
    "row",
    "noise",
    "F1 paper",
    "F1",
    "diff",
    "RP paper",
    "RP",
    "diff",
    "settings",
    "images",
    "measured by",
)


def _cells(record: Mapping[str, Any]) -> list[str]:
    measured, difference = record["measured"] or {}, record["difference"] or {}
    mark = "!" if record["contradictory"] else ""
    return [
        " ".join(filter(None, (record["localizer"], record["source"], _defence_of(record)))),
        record["attack"],
        figure(record["f1"], 3) + mark,
        figure(measured.get("f1"), 3),
        _signed(difference.get("f1"), 3),
        figure(record["rp"], 1) + mark,
        figure(measured.get("rp"), 1),
        _signed(difference.get("rp"), 1),
        f"{measured['settings']}/{record['settings_of_paper']}" if measured else "-",
        figure(measured.get("images"), 0),
        measured.get("by", "-"),
    ]


def _signed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:+.{digits}f}"
