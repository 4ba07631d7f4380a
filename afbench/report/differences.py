"""Two submissions side by side, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .tables import figure, text_table

_HEAD = (
    *("localizer", "attack", "images"),
    *("F1 first", "second", "difference", "95 % interval", ""),
    *("RP first", "second", "difference", "95 % interval", ""),
)


def differences_table(comparison: Mapping[str, Any]) -> str:
    """What ``afbench.scoring.compare`` found, as an aligned table; a tie is where the interval holds 0."""
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
    head = f"first  {comparison['first']}\nsecond {comparison['second']}\ndataset {comparison['dataset_version']}"
    return f"{head}\n\n{text_table(_HEAD, body)}"


def _cells(row: Mapping[str, Any], digits: int) -> list[str]:
    low, high, gap = row["low"], row["high"], row["difference"]
    return [
        figure(row["first"], digits),
        figure(row["second"], digits),
        "-" if gap is None else f"{gap:+.{digits}f}",
        "-" if low is None else f"{low:+.{digits}f} to {high:+.{digits}f}",
        "" if row["tie"] is None else "tie" if row["tie"] else "differ",
    ]
