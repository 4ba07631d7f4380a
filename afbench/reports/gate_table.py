"""Gates as text: passed, failed, or nothing to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .text import fold_line

_WORDS = {True: "pass", False: "FAIL", None: "-"}


def gate_table(gates: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Write one line per gate: the verdict, the defence (of which localizer, where there are several), what was asked, the figures."""
    several = len({gate.get("localizer") for gate in gates}) > 1
    rows = [
        (
            _WORDS[gate["passed"]],
            f"{gate['localizer']} {gate['defence']}" if several else gate["defence"],
            gate["name"],
            gate["detail"],
        )
        for gate in gates
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = (
        "  ".join([*(cell.ljust(breadth) for cell, breadth in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    )
    return "\n".join(fold_line(line, width, " " * 6) for line in lines)
