"""Gates as text: passed, failed, or nothing to check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_WORDS = {True: "pass", False: "FAIL", None: "-"}


def gate_table(gates: Sequence[Mapping[str, Any]]) -> str:
    """One line per gate: the verdict, the defence, what was asked, the figures."""
    rows = [(_WORDS[one["passed"]], one["defence"], one["name"], one["detail"]) for one in gates]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]])
        for row in rows
    )
