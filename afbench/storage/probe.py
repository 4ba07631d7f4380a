"""Let a process with little memory check whether shards and tables are what they claim, before this one reads them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afbench import sandbox

from .problem import Problem

MEMORY = sandbox.MEMORY
SECONDS = 300
"""Of one core, for one file."""


def probe_shards(folder: Path, files: Mapping[str, int], *, decode: bool) -> Iterator[Problem]:
    """Check the columns and the rows of shards, and with ``decode`` every page, in a bounded process.

    Args:
        folder: of the benchmark.
        files: the rows that each shard, by its path, should have; all exist.
        decode: read every page, not only the footer.
    """
    return _probe(folder, files, {"decode": decode})


def probe_tables(
    folder: Path, files: Mapping[str, int], *, columns: Sequence[str] | None = None, batch_rows: int
) -> Iterator[Problem]:
    """Decode files of any packing in a bounded process, so that reading them whole is known to take little memory.

    Args:
        folder: where they are; a path may also be absolute.
        files: the bytes that the values of each file, by its path, may take; all exist.
        columns: that will be read; None for all.
        batch_rows: how many rows to decode at once.
    """
    return _probe(folder, files, {"columns": columns and list(columns), "batch_rows": batch_rows})


def _probe(folder: Path, files: Mapping[str, int], options: Mapping[str, Any]) -> Iterator[Problem]:
    remaining = dict(files)
    while remaining:
        largest_file = max((folder / path).stat().st_size for path in remaining)
        request = {
            **options,
            "folder": str(folder.resolve()),
            "files": remaining,
            "seconds": SECONDS,
            "memory": sandbox.memory_for(largest_file, MEMORY),
        }
        result = subprocess.run(
            sandbox.python_command(f"{__package__}.probe_child"),
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        for path, message in map(json.loads, result.stdout.splitlines()):
            remaining.pop(path, None)
            if message:
                yield Problem(path, message)
        if remaining:  # it was stopped in the middle of this one
            path = next(iter(remaining))
            del remaining[path]
            yield Problem(path, "takes too much memory or time to read")
