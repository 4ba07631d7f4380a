"""Write the comparison of two submissions as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tables import figure
from .text import fold_line, text_table

_HEAD = (
    *("localizer", "attack", "images"),
    *("F1 first", "second", "difference", "95 % interval", ""),
    *("RP first", "second", "difference", "95 % interval", ""),
)


def differences_table(comparison: Mapping[str, Any], width: int | None = None) -> str:
    """Draw what ``afbench.scoring.compare`` found as an aligned table; a tie is where the interval holds 0."""
    body = [
        [
            row["localizer"],
            row["attack"],
            str(row["rows"]),
            *_cells(row["f1"], 3),
            *_cells(row["rp"], 1),
        ]
        for row in comparison["attacks"]
    ]
    lines = (
        f"first  {comparison['first']}",
        f"second {comparison['second']}",
        f"dataset {comparison['dataset_version']}",
    )
    table = text_table(_HEAD, body, column_groups=(1, 5, 5), width=width)
    return "\n".join([*(fold_line(line, width) for line in lines), "", table])


def _cells(row: Mapping[str, Any], digits: int) -> list[str]:
    low, high, gap = row["low"], row["high"], row["difference"]
    return [
        figure(row["first"], digits),
        figure(row["second"], digits),
        "-" if gap is None else f"{gap:+.{digits}f}",
        "-" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}",
        "" if row["tie"] is None else "tie" if row["tie"] else "differ",
    ]
