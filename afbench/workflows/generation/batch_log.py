"""Read from a folder's log which batches its runs made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from afbench.storage.manifests import LOG


def logged_groups(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the ``group`` entries of a log, the oldest first; skip lines that are damaged."""
    path = folder / LOG / "run.jsonl"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        with suppress(ValueError):  # the log is not checked by hash, and a kill may cut a line
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("event") == "group":
                yield entry


def logged_batch_sizes(folder: Path, localizer: str) -> dict[tuple[int, int], int]:
    """Return the batch size that the first run measured for a localizer, by image size (height, width)."""
    batch_sizes: dict[tuple[int, int], int] = {}
    for entry in logged_groups(folder):
        with suppress(ValueError, KeyError, TypeError, IndexError):
            if entry["localizer"] == localizer:
                # the first run's sizes win: shards that were made with them are stored already
                batch_sizes = parse_batch_sizes(entry["launches"]) | batch_sizes
    return {size: images for size, images in batch_sizes.items() if images > 0}


def parse_batch_sizes(entries: Sequence[Sequence[Any]]) -> dict[tuple[int, int], int]:
    """Turn entries ``[height, width, images]`` into batch sizes by image size (height, width)."""
    return {(int(entry[0]), int(entry[1])): int(entry[2]) for entry in entries}
