"""What is asked of a run, checked before any work. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from afbench.core import UsageError
from afbench.images import ImageFormat
from afbench.localizers import require_localizer
from afbench.plan import RunPlan, require_catalogue
from afbench.storage.run_folder import check_folder

OnIndex = Callable[[int, int], None]
AttackAt = Literal["native", "model"]
"""Whether originals keep their size, or take the one the localizer resizes to."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run, as opposed to what: only ``precision``, ``checkpoint``, ``attack_at``, ``through_defence`` (a defence
    as ``load_defence`` reads it) and ``compile`` decide the pixels.

    ``deterministic`` has a GPU give the same bytes again; every shard's record says which level of that was promised.

    ``image_threads`` decode and encode beside the attack: None for one a processor, 0 to do it in between.
    ``batch_size`` is in images per launch, None to follow their size; another one may move single levels in
    float32, and so may adding phi to a finished benchmark.
    """

    checkpoint: str | None = None
    localizer_name: str | None = None
    device: str = "cpu"
    precision: str = "fp32"
    batch_size: int | None = None
    shard_size: int | None = None
    image_format: ImageFormat = "webp"
    attack_at: AttackAt = "native"
    authentic: bool = False
    through_defence: str | None = None
    retry_failed: bool = False
    image_threads: int | None = None
    deterministic: bool = True
    compile: bool = False
    ignore_disk: bool = False


@dataclass(frozen=True)
class Part:
    """Every ``count``-th shard of a plan from ``index`` on, for processes that nothing but the folder connects.

    Raises:
        UsageError: if it is out of range.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1:
            raise UsageError(f"--num-shards must be at least 1; found {self.count}")
        if not 0 <= self.index < self.count:
            raise UsageError(f"--shard-index must be from 0 to {self.count - 1}; found {self.index}")


@dataclass(frozen=True)
class Hooks:
    """Where a caller listens: ``start(work)``, ``advance(work)``, ``say(line)``, ``index(files, of)``.

    Work is in gradients; looks without one and the keeping of images count as their share, by the cost model of ``afbench plan``.
    ``warn(line)`` hears of what looks wrong with a source before the work begins.
    """

    start: Callable[[int], None] = lambda total: None
    advance: Callable[[int], None] = lambda done: None
    say: Callable[[str], None] = lambda line: None
    index: OnIndex = lambda files, of: None
    warn: Callable[[str], None] = lambda line: None


def localizer_names(plan: RunPlan) -> list[str]:
    """Every localizer of a plan, once."""
    return list(dict.fromkeys(name for block in plan.blocks for name in block.localizers))


def config_localizer(name: str) -> str:
    """What configs call a localizer unless told otherwise: its name, or that of a user's function, made legal."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def check_request(plan: RunPlan, out: Path, options: Options) -> None:
    """Refuse what can be refused without torch, data or weights.

    Raises:
        UsageError: for an output folder, a localizer, a checkpoint or an option that cannot be used.
    """
    check_folder(out)
    names = localizer_names(plan)
    if len(names) > 1 and (options.checkpoint or options.localizer_name):
        raise UsageError("--checkpoint and --localizer-name go with one localizer; found " + ", ".join(names))
    # no dot: '.' and '..' are folders, and temporary files and headers of originals are told by theirs
    if options.localizer_name is not None and not re.fullmatch(r"[a-z0-9_]+", options.localizer_name):
        raise UsageError(f"--localizer-name must match [a-z0-9_]+; found '{options.localizer_name}'")
    if any(one is not None and one < 1 for one in (options.batch_size, options.shard_size)):
        raise UsageError("--batch-size and --shard-size must be at least 1")
    if options.image_threads is not None and options.image_threads < 0:
        raise UsageError(f"--image-threads must be at least 0; found {options.image_threads}")
    if options.precision == "tf32" and not options.device.startswith("cuda"):
        raise UsageError(
            f"--precision tf32 needs an NVIDIA GPU; on device '{options.device}' use fp32 or bf16"
        )
    require_catalogue(setting for block in plan.blocks for setting in block.settings)
    for name in names:
        require_localizer(name, options.checkpoint)
