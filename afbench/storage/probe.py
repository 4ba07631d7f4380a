"""Let a process with little memory check whether shards are what they claim, before this one reads them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .problem import Problem

MEMORY = 1 << 31
"""Bytes of address space that reading may take, beside four times the largest file."""
SECONDS = 300
"""Of one core, for one file."""


def probe_shards(folder: Path, files: Mapping[str, int], *, decode: bool) -> Iterator[Problem]:
    """Check the columns and the rows of shards, and with ``decode`` every page, in a bounded process.

    Args:
        folder: of the benchmark.
        files: the rows that each shard, by its path, should have; all exist.
        decode: read every page, not only the footer.
    """
    remaining = dict(files)
    while remaining:
        request = {
            "folder": str(folder.resolve()),
            "files": remaining,
            "decode": decode,
            "seconds": SECONDS,
            # a good shard may take memory by its size: it is not compressed
            "memory": MEMORY + 4 * max((folder / path).stat().st_size for path in remaining),
        }
        # -P keeps the working directory, a stranger's perhaps, out of the child's imports
        result = subprocess.run(
            [sys.executable, "-P", "-m", f"{__package__}.probe_child"],
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        lines = result.stdout.splitlines()
        messages = dict(zip(lines[::2], lines[1::2], strict=False))
        for path, message in messages.items():
            remaining.pop(path, None)
            if message:
                yield Problem(path, message)
        if remaining:  # it was stopped in the middle of this one
            path = next(iter(remaining))
            del remaining[path]
            yield Problem(path, "takes too much memory or time to read")
