"""One block of samples: the originals first, then every localizer and sharing group that is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from afbench.core import AfbenchError, BadSample, Sample, Setting, Source
from afbench.defences.defended_localizer import undefended
from afbench.engine import (
    OUT_OF_MEMORY,
    AttackedRow,
    Failure,
    Judged,
    Originals,
    judge,
    start_settings,
    upload_originals,
)
from afbench.engine.gpu_log import gpu_use
from afbench.engine.io_pool import SerialWriter, Submit
from afbench.engine.memory import is_out_of_memory
from afbench.engine.precision import promised_level
from afbench.engine.probe_max_batch import probe_max_batch
from afbench.images import ImageFormat
from afbench.interrupts import raise_if_stopped
from afbench.storage.manifests import TOP, ids_sha256
from afbench.storage.run_folder import commit_record, log_event
from afbench.storage.shards import write_shard

from .batch_log import logged_launches
from .run_progress import Headway, Piece
from .splits import Split
from .stored_rows import PixelHashes, attacked_row, clean_row, hash_sample
from .tasks import Task, missing_groups, stored_record

_NO_MEMORY = (
    "out of memory; lower --batch-size, ask for fewer phi at once, or leave out the largest images; "
    "committed shards are kept"
)


@dataclass
class Run:
    """Where and how shards are made, and what has been done so far; ``kept`` are the gradients of what is committed."""

    out: Path
    seed: int
    device: str
    batch_size: int | None
    image_format: ImageFormat
    headway: Headway
    say: Callable[[str], None]
    image_threads: int
    deterministic: bool
    compiled: bool
    shards: int = 0
    gradients: int = 0
    kept: int = 0
    published_at: tuple[int, int] | None = None
    rooms: dict[tuple[str, tuple[int, int]], int] = field(default_factory=dict)

    def is_published(self) -> bool:
        """True if another process has published what this run began with, and so removed the records."""
        return stamp(self.out) != self.published_at


def stamp(out: Path) -> tuple[int, int] | None:
    """Tells one state of the closed list of files from another."""
    try:
        found = (out / TOP).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


@dataclass(frozen=True)
class Beside:
    """What works beside the attack: threads for images, and the one that writes."""

    submit: Submit
    writer: SerialWriter


def start_reading(split: Split, number: int, submit: Submit) -> list[Future[Sample | BadSample]]:
    """Have the samples of a shard decoded, in the order of their ids."""
    return [submit(_read, split.source, sample_id) for sample_id in split.shards[number]]


def run_shard(
    run: Run,
    split: Split,
    number: int,
    tasks: Sequence[Task],
    reading: Sequence[Future[Sample | BadSample]],
    beside: Beside,
    *,
    originals_published: bool,
) -> None:
    """Make whatever is missing of one shard, of samples that are being read; the last of it may still be written after.

    Raises:
        AfbenchError: if a shard cannot be written.
    """
    missing = [(task, group) for task in tasks for group in missing_groups(run.out, task, number)]
    samples, excluded = _samples(split.shards[number], reading)
    hashing = {sample.sample_id: beside.submit(hash_sample, sample) for sample in samples}
    if not originals_published and stored_record(run.out, split.originals, split, number) is None:
        rows = [
            beside.submit(_clean_row, sample, split.name, run.image_format, hashing[sample.sample_id])
            for sample in samples
        ]

        def write() -> None:
            done = [one.result() for one in rows]
            _commit(run, split.originals, split, number, done, excluded, together=())
            run.headway.did(split.keep_seconds * len(split.shards[number]))

        beside.writer.put(write)
    for one in excluded:
        run.say(f"excluded {one['sample_id']}: {one['reason']} ({one['detail']})")
    if not missing:
        return
    with _told_of_memory():
        originals = upload_originals(samples, run.device)
    before: dict[str, list[Judged]] = {}
    for task, group in missing:
        if task.name not in before:
            before[task.name] = _judge_originals(run, task, number, originals)
        _run_group(run, task, group, number, originals, before[task.name], excluded, hashing, beside)


def _judge_originals(run: Run, task: Task, number: int, originals: Originals) -> list[Judged]:
    """Also of attacks through a defence: every RP refers to the bare localizer on the originals."""
    piece = Piece(run.headway.did, task.effort.forward * len(task.split.shards[number]))
    with _told_of_memory():
        judged = judge(
            undefended(task.localizer),
            originals.images,
            originals.masks,
            batch_size=run.batch_size,
            device=run.device,
            on_judged=lambda images: piece.add(images * task.effort.forward),
        )
    piece.finish()
    return judged


def _run_group(
    run: Run,
    task: Task,
    group: Sequence[Setting],
    number: int,
    originals: Originals,
    before: Sequence[Judged],
    excluded: Sequence[Mapping[str, str]],
    hashing: Mapping[str, Future[PixelHashes]],
    beside: Beside,
) -> None:
    started, threads = time.monotonic(), torch.get_num_threads()
    halved: dict[tuple[int, int], int] = {}
    gradients = looks = 0
    piece = Piece(run.headway.did, task.effort.of_group(group) * len(task.split.shards[number]))

    def on_gradients(images: int) -> None:
        nonlocal gradients
        gradients += images
        run.gradients += images
        piece.add(images * task.effort.gradient)

    def on_queries(images: int) -> None:
        nonlocal looks
        looks += images
        piece.add(images * task.effort.forward)

    def on_halved(size: tuple[int, int], images: int) -> None:
        halved[size] = images
        told = f"out of memory at {size[0]}x{size[1]}: going on with {images} images at once"
        run.say(told)
        log_event(run.out, event="halved", split=task.split.name, shard=number, size=size, batch_size=images)

    with _told_of_memory(), gpu_use(run.device) as used:
        launches = _launches(run, task, originals.samples)
        finish = start_settings(
            task.localizer,
            originals,
            before,
            group,
            seed=run.seed,
            batch_size=run.batch_size,
            image_format=run.image_format,
            on_gradients=on_gradients,
            on_queries=on_queries,
            on_judged=lambda images: piece.add(images * task.effort.forward),
            on_halved=on_halved,
            batch_sizes=launches,
            submit=beside.submit,
        )
        use = used()

    def write() -> None:
        with _told_of_memory():
            done = finish()
        _refuse_none(done)
        hashes = {sample_id: one.result() for sample_id, one in hashing.items()}
        wrote = _write_group(run, task, group, number, done, excluded, hashes)
        run.kept += gradients
        piece.finish()
        log_event(
            run.out,
            event="group",
            process=os.getpid(),
            localizer=task.name,
            split=task.split.name,
            shard=number,
            settings=[f"{setting.attack}-{setting.label}" for setting in group],
            wrote=wrote,
            device=run.device,
            batch_size=run.batch_size,
            launches=[[*size, images] for size, images in launches.items()],
            halved=[[*size, images] for size, images in halved.items()],
            deterministic=run.deterministic,
            threads=threads,
            passes=gradients + looks,
            work=run.headway.unlogged(),
            seconds=round(time.monotonic() - started, 3),
            **use,
        )

    beside.writer.put(write)


def _write_group(
    run: Run,
    task: Task,
    group: Sequence[Setting],
    number: int,
    done: Mapping[Setting, Sequence[AttackedRow | Failure]],
    excluded: Sequence[Mapping[str, str]],
    hashes: Mapping[str, PixelHashes],
) -> list[str]:
    """Commit the shards of a group that are not there yet; returns their configs."""
    split, configs = task.split, task.configs()
    wrote = []
    for setting, results in done.items():
        config = configs[setting]
        if stored_record(run.out, config, split, number):
            continue
        rows = [
            attacked_row(one, setting, task.localizer, task.name, split.name, hashes)
            for one in results
            if isinstance(one, AttackedRow)
        ]
        failed = [
            {"sample_id": one.sample_id, "reason": one.reason, "detail": one.detail}
            for one in results
            if isinstance(one, Failure)
        ]
        together = [configs[one] for one in group]
        _commit(run, config, split, number, rows, [*excluded, *failed], together=together)
        wrote.append(config)
    return wrote


def _refuse_none(done: Mapping[Setting, Sequence[AttackedRow | Failure]]) -> None:
    """Fail where nothing at all fits: then it is not the images that are too large."""
    results = [one for rows in done.values() for one in rows]
    if results and all(isinstance(one, Failure) and one.reason == OUT_OF_MEMORY for one in results):
        raise AfbenchError(f"{_NO_MEMORY} (even one image at a time)")


@contextmanager
def _told_of_memory() -> Iterator[None]:
    """Turn torch's ways of running out of memory into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        raise_if_stopped()
        if not is_out_of_memory(error):
            raise
        raise AfbenchError(_NO_MEMORY) from None


def _launches(run: Run, task: Task, samples: Sequence[Sample]) -> dict[tuple[int, int], int]:
    """Images per launch of each size where they are measured: on a GPU, if nobody said how many.

    What the log says of an earlier run of the folder counts, so that a resumed run launches the same batches.
    """
    if run.batch_size is not None or not run.device.startswith("cuda"):
        return {}
    found = {}
    logged = logged_launches(run.out, task.name)
    for height, width in dict.fromkeys(sample.mask.shape for sample in samples):
        size = height, width
        if (task.name, size) not in run.rooms:
            run.rooms[task.name, size] = logged.get(size) or probe_max_batch(task.localizer, size, run.device)
        found[size] = run.rooms[task.name, size]
    return found


def _read(source: Source, sample_id: str) -> Sample | BadSample:
    try:
        return source.read(sample_id)
    except BadSample as problem:
        raise_if_stopped()
        return problem


def _samples(
    ids: Sequence[str], reading: Sequence[Future[Sample | BadSample]]
) -> tuple[list[Sample], list[dict[str, str]]]:
    samples, excluded = [], []
    for sample_id, future in zip(ids, reading, strict=True):
        found = future.result()
        if isinstance(found, BadSample):
            excluded.append({"sample_id": sample_id, "reason": found.reason, "detail": found.detail})
        else:
            samples.append(found)
    return samples, excluded


def _clean_row(
    sample: Sample, split: str, image_format: ImageFormat, hashing: Future[PixelHashes]
) -> dict[str, Any]:
    return clean_row(sample, split, image_format, hashing.result())


def _commit(
    run: Run,
    config: str,
    split: Split,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    excluded: Sequence[Mapping[str, str]],
    *,
    together: Sequence[str],
) -> None:
    record = write_shard(
        run.out,
        split.path(config, number),
        config,
        rows,
        ids_sha256=ids_sha256(split.shards[number]),
        excluded=excluded,
    )
    level = (
        promised_level(run.device, deterministic=run.deterministic, compiled=run.compiled) if together else ""
    )
    known = {} if together else split.source.files
    files = {row["sample_id"]: known[row["sample_id"]] for row in rows if row["sample_id"] in known}
    record = replace(record, together=together, image_format=run.image_format, determinism=level, files=files)
    commit_record(run.out, config, split.name, number, record)
    run.shards += 1
