"""What the log of a folder says of launches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from afbench.storage.manifests import LOG


def logged_groups(folder: Path) -> Iterator[dict[str, Any]]:
    """The ``group`` lines of a log, the oldest first; lines that are damaged are passed over."""
    path = folder / LOG / "run.jsonl"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError):  # nobody vouches for the log
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "group":
                yield entry


def logged_launches(folder: Path, localizer: str) -> dict[tuple[int, int], int]:
    """Images per launch by size (height, width) that runs measured for a localizer, the first of each."""
    found: dict[tuple[int, int], int] = {}
    for entry in logged_groups(folder):
        with suppress(ValueError, KeyError, TypeError, IndexError):
            if entry["localizer"] == localizer:
                found = sizes(entry["launches"]) | found
    return {size: images for size, images in found.items() if images > 0}


def sizes(told: Sequence[Sequence[Any]]) -> dict[tuple[int, int], int]:
    """``[height, width, images]`` by size."""
    return {(int(one[0]), int(one[1])): int(one[2]) for one in told}
