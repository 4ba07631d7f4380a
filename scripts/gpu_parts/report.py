"""A report in Markdown that grows line by line, so that whatever stops it loses nothing that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from afbench.engine import PRECISIONS


@dataclass(frozen=True)
class Scale:
    """Where to measure and how much: ``tiny`` tries the script itself, on a CPU too, and its figures say nothing.

    ``localizers`` and ``precisions`` say which ones ``bytes``, ``rates`` and ``compile`` take; by default each section its own.
    """

    device: str
    tiny: bool
    localizers: Sequence[str] = ()
    precisions: Sequence[str] = PRECISIONS

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def available_precisions(self) -> Sequence[str]:
        """Return the precisions to measure: TF32 exists on GPUs alone, and bf16 says nothing elsewhere."""
        return [name for name in self.precisions if self.on_gpu or name == "fp32"]


@dataclass(frozen=True)
class Report:
    """Prints every line at once, and appends it to a file."""

    path: Path | None = None

    def line(self, text: str = "") -> None:
        print(text, flush=True)
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    def heading(self, text: str, note: str = "") -> None:
        for line in (f"## {text}", "", *((note, "") if note else ())):
            self.line(line)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
        """Write each row as soon as it is measured, and return all of them."""
        table_rows = []
        self._row(head)
        self._row(["---"] * len(head))
        for row in rows:
            self._row(row)
            table_rows.append(row)
        self.line()
        return table_rows

    def _row(self, cells: Sequence[str]) -> None:
        self.line(f"| {' | '.join(cells)} |")
