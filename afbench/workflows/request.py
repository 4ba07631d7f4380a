"""The options of a run, and their check before any work. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from afbench.core import ShardFormat, UsageError
from afbench.defences.post_names import POST, step_text
from afbench.images import ImageFormat
from afbench.localizers import require_localizer, why_imprecise
from afbench.plans import RunPlan, require_catalogue
from afbench.storage.run_folder import check_folder, folder_format
from afbench.work_progress import Progress

OnIndex = Callable[[int, int], None]
AttackAt = Literal["native", "model"]
"""Whether originals keep their size or are resized to the localizer's input."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to run a plan. Of these options, ``precision``, ``checkpoint``, ``attack_at``, ``through_defence`` (a defence as
    ``load_defence`` reads it) and ``compile`` decide the pixels.

    ``allow_imprecise`` attacks a localizer also in a ``precision`` that makes another network of it.

    ``deterministic`` makes a GPU give the same bytes again; every shard's record states which level of that was promised.
    ``image_threads`` decode and encode images during the attack: None for one per processor, 0 to do it between attacks.
    ``shard_format`` None is that of the plan or the folder. ``batch_size`` is in images; None follows their size. Another batch size may change single pixel levels in float32, and so
    may adding phi to a finished benchmark.
    """

    checkpoint: str | None = None
    localizer_name: str | None = None
    device: str = "cpu"
    precision: str = "fp32"
    allow_imprecise: bool = False
    batch_size: int | None = None
    shard_size: int | None = None
    image_format: ImageFormat = "webp"
    shard_format: ShardFormat | None = None
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
    """Every ``count``-th shard of a plan, beginning with ``index``, for processes that share only the folder.

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


@dataclass(frozen=True, kw_only=True)
class GenerateHooks:
    """Where a caller listens to a run: its ``progress``, and ``index(files, total)`` while a source is indexed.

    Work is in gradients; forward passes and the encoding of images count as fractions, by the cost model of ``afbench plan``.
    ``warn(line)`` gets what looks wrong with a source before the work begins.
    """

    progress: Progress = Progress()  # noqa: RUF009 - immutable
    index: OnIndex = lambda files, total: None
    warn: Callable[[str], None] = lambda line: None


def localizer_names(plan: RunPlan) -> list[str]:
    """List the localizers of a plan, each once."""
    return list(dict.fromkeys(name for block in plan.blocks for name in block.localizers))


def config_localizer(name: str) -> str:
    """Return a localizer's default name in configs: its own, or that of a user's function, with other characters as ``_``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def through_text(defence: str | None, step: str | None) -> str | None:
    """Return what attacks go through, as ``load_defence`` reads it, of ``--through-defence`` and ``--through-post``.

    Raises:
        UsageError: if both are given.
    """
    if step is None:
        return defence
    if defence is not None:
        raise UsageError(
            "--through-post and --through-defence are two attacks; make them one after the other"
        )
    return POST + step_text(step)


def choose_format(plan: RunPlan, out: Path, options: Options) -> ShardFormat:
    """Return the format of a run's shards: what is asked for, else what the folder has, else Parquet.

    Raises:
        UsageError: if the folder has another format than the one asked for, or is an archive.
    """
    requested, existing = options.shard_format or plan.shard_format, folder_format(out)
    if requested and existing and requested != existing:
        raise UsageError(
            f"'{out}' has {existing} shards, and a folder has one format; leave --format {requested} out, give another --out, "
            f"or make a copy with `afbench export {out} --to {'hdf5-benchmark' if requested == 'hdf5' else requested} --out OTHER`"
        )
    return requested or existing or "parquet"


def check_request(plan: RunPlan, out: Path, options: Options) -> None:
    """Refuse a request that can be seen to fail without torch, data or weights.

    Raises:
        UsageError: for an output folder, a localizer, a checkpoint or an option that cannot be used.
    """
    check_folder(out)
    choose_format(plan, out, options)
    names = localizer_names(plan)
    if len(names) > 1 and (options.checkpoint or options.localizer_name):
        raise UsageError("--checkpoint and --localizer-name go with one localizer; found " + ", ".join(names))
    # no dot: '.' and '..' are folders, and a dot marks temporary files and headers of originals
    if options.localizer_name is not None and not re.fullmatch(r"[a-z0-9_]+", options.localizer_name):
        raise UsageError(f"--localizer-name must match [a-z0-9_]+; found '{options.localizer_name}'")
    for option, count in (("--batch-size", options.batch_size), ("--shard-size", options.shard_size)):
        if count is not None and count < 1:
            raise UsageError(f"{option} must be at least 1; found {count}")
    if options.image_threads is not None and options.image_threads < 0:
        raise UsageError(f"--image-threads must be at least 0; found {options.image_threads}")
    if options.precision == "tf32" and not options.device.startswith("cuda"):
        raise UsageError(
            f"--precision tf32 needs an NVIDIA GPU; on device '{options.device}' use fp32 or bf16"
        )
    require_catalogue(setting for block in plan.blocks for setting in block.settings)
    for name in names:
        require_localizer(name, options.checkpoint)
        reason = why_imprecise(name, options.precision)
        if reason and not options.allow_imprecise:
            raise UsageError(
                f"--precision {options.precision} would attack another network than '{name}': {reason}; "
                "leave the option out, or give --allow-imprecise, which is recorded"
            )
