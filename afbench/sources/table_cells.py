"""Read cells of Parquet and Arrow tables through a process that has little memory (``table_child``), one for each process here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import BadSample
from afbench.sandbox import TOO_MUCH, memory_for, python_command

WALL_SECONDS = 360
"""Of one request; the process limits its own processor time, but could also wait for ever."""
_CELL = re.compile(r"(.+?\.(?:parquet|arrow))::(.+)::([0-9]{1,12})", re.IGNORECASE | re.DOTALL)


class TableCell(NamedTuple):
    """A value of a table below a root, which stands for a file of its own."""

    file: str
    column: str
    row: int

    def __str__(self) -> str:
        return f"{self.file}::{self.column}::{self.row}"


def parse_cell(path: str) -> TableCell | None:
    """Read the path of a cell; None for the path of a file."""
    match = _CELL.fullmatch(path)
    return TableCell(match[1], match[2], int(match[3])) if match else None


def file_of(path: str) -> str:
    """Return the file that holds a cell, or the path itself."""
    cell = parse_cell(path)
    return cell.file if cell else path


@dataclass
class _Child:
    """The process that reads tables for one process here; it is started when it is needed, with as much memory as that takes."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    process: subprocess.Popen[bytes] | None = None
    memory: int = 0

    def start(self, memory: int) -> subprocess.Popen[bytes]:
        # a process cannot raise its own limit
        if self.process is not None and memory > self.memory:
            self.stop()
        if self.process is None:
            command = python_command(f"{__package__}.table_child", str(memory))
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self.memory = memory
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


_children: dict[int, _Child] = {}
"""By the number of the process that asks: one that was forked may not read the answers of its parent."""


def scan_table(path: Path, mask: str, label: str | None) -> dict[str, Any]:
    """Return what a table holds: ``columns`` (type by name), ``label_names``, and ``has_mask`` and ``labels`` row by row, if the
    columns are there.

    Raises:
        BadSample: ``unreadable``.
    """
    return _ask({"path": str(path), "mask": mask, "label": label}, path.stat().st_size, 0)[0]


def read_cell(path: Path, cell: TableCell, limit: int) -> bytes:
    """Return the bytes in a cell of the table at a path.

    Raises:
        BadSample: ``unreadable``, ``too_large`` (above ``limit`` bytes) or ``missing_image`` (an empty cell).
    """
    request = {"path": str(path), "column": cell.column, "row": cell.row}
    answer, data = _ask(request, path.stat().st_size, limit)
    if answer["length"] is None:
        raise BadSample("missing_image", f"nothing in {str(cell)!a}")
    return data


def _ask(request: dict[str, Any], size: int, limit: int) -> tuple[dict[str, Any], bytes]:
    child = _children.setdefault(os.getpid(), _Child())
    with child.lock:
        process = child.start(memory_for(size))
        watch = threading.Timer(WALL_SECONDS, process.kill)
        watch.start()
        try:
            answer, data = _exchange(process, json.dumps(request).encode() + b"\n", limit)
        except BaseException:  # also Ctrl-C: the answer to this question may not become that to the next
            child.stop()
            raise
        finally:
            watch.cancel()
    if "error" in answer:
        raise BadSample("unreadable", str(answer["error"])[:300])
    return answer, data


def _exchange(process: subprocess.Popen[bytes], line: bytes, limit: int) -> tuple[dict[str, Any], bytes]:
    assert process.stdin and process.stdout
    try:
        process.stdin.write(line)
        process.stdin.flush()
        head = process.stdout.readline()
        answer: dict[str, Any] = json.loads(head)
        length = answer.get("length") or 0
        if length > limit:
            raise BadSample("too_large", f"{length} bytes, at most {limit} are read")
        data = process.stdout.read(length)
    except (BrokenPipeError, ValueError):  # no answer at all, or a part of one
        raise BadSample("unreadable", TOO_MUCH) from None
    if len(data) < length:
        raise BadSample("unreadable", TOO_MUCH)
    return answer, data
