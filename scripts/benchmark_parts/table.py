"""A table as Markdown that reads well as text, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """What was measured; ``note`` says how, and whether the target was met."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        widths = [
            max(len(row[column]) for row in [self.head, *self.rows]) for column in range(len(self.head))
        ]
        lines = [self._line(self.head, widths), self._line(["-" * width for width in widths], widths)]
        lines += [self._line(row, widths) for row in self.rows]
        return "\n".join([f"## {self.title}", "", *([self.note, ""] if self.note else []), *lines])

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        return f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"

    def as_json(self) -> dict[str, object]:
        return {
            "title": self.title,
            "note": self.note,
            "rows": [dict(zip(self.head, row, strict=True)) for row in self.rows],
        }


def verdict(met: bool) -> str:
    """Say whether a target is met."""
    return "met" if met else "MISSED"
