"""The state of a run that all its shards share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from afbench.engine.io_pool import SerialWriter, Submit
from afbench.images import ImageFormat
from afbench.storage.manifests import TOP

from .run_progress import GradientCounter


@dataclass(kw_only=True)
class RunContext:
    """Where and how a run makes shards, and what it has done so far.

    ``measured_batch_sizes`` holds images per batch by localizer and image size (height, width). ``published_at`` is the state
    of the list of files that the run began with.
    """

    out: Path
    seed: int
    device: str
    batch_size: int | None
    image_format: ImageFormat
    progress: GradientCounter
    say: Callable[[str], None]
    image_threads: int
    deterministic: bool
    compiled: bool
    shards: int = 0
    gradients: int = 0
    committed_gradients: int = 0
    published_at: tuple[int, int] | None = None
    measured_batch_sizes: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)

    def is_published(self) -> bool:
        """Say whether another process has published since this run began, and so removed the records."""
        return list_stamp(self.out) != self.published_at


def list_stamp(out: Path) -> tuple[int, int] | None:
    """Return what tells one state of the closed list of files from another; None if there is no list."""
    try:
        status = (out / TOP).stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


@dataclass(frozen=True)
class IoThreads:
    """Threads that work during an attack: ``submit`` decodes and encodes images, ``writer`` writes shards in order."""

    submit: Submit
    writer: SerialWriter
