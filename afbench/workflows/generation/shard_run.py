"""Make one shard: the originals first, then every localizer and sharing group that is missing."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
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
from afbench.engine.io_pool import Submit
from afbench.engine.memory import is_out_of_memory
from afbench.engine.precision import promised_level
from afbench.engine.probe_max_batch import probe_max_batch
from afbench.images import ImageFormat
from afbench.interrupts import raise_if_stopped
from afbench.storage.manifests import ids_sha256
from afbench.storage.run_folder import commit_record, log_event
from afbench.storage.shards import write_shard
from afbench.work_progress import WorkPiece

from .batch_log import logged_batch_sizes
from .run_context import IoThreads, RunContext
from .splits import Split
from .stored_rows import PixelHashes, attacked_row, clean_row, hash_sample
from .tasks import Task, missing_groups, stored_record

_NO_MEMORY = (
    "out of memory; lower --batch-size, ask for fewer phi at once, or leave out the largest images; "
    "committed shards are kept"
)


def start_reading(split: Split, number: int, submit: Submit) -> list[Future[Sample | BadSample]]:
    """Start decoding the samples of a shard, in the order of their ids."""
    return [submit(_read, split.source, sample_id) for sample_id in split.shards[number]]


def run_shard(
    run: RunContext,
    split: Split,
    number: int,
    tasks: Sequence[Task],
    reading: Sequence[Future[Sample | BadSample]],
    io_threads: IoThreads,
    *,
    originals_published: bool,
) -> None:
    """Make what is missing of one shard, from samples that are being read; its last files may be written after the return.

    Raises:
        AfbenchError: if a shard cannot be written.
    """
    missing = [(task, group) for task in tasks for group in missing_groups(run.out, task, number)]
    samples, excluded_samples = _samples(split.shards[number], reading)
    # hashing runs in threads while the localizer works
    hash_futures = {sample.sample_id: io_threads.submit(hash_sample, sample) for sample in samples}
    if not originals_published and stored_record(run.out, split.originals, split, number) is None:
        rows = [
            io_threads.submit(
                _clean_row, sample, split.name, run.image_format, hash_futures[sample.sample_id]
            )
            for sample in samples
        ]

        def write() -> None:
            clean_rows = [row_future.result() for row_future in rows]
            _commit(
                run,
                split.originals,
                split,
                number,
                clean_rows,
                excluded_samples,
                batch_configs=(),
                members={},
            )
            run.progress.add(split.keep_seconds * len(split.shards[number]))

        io_threads.writer.put(write)
    for sample in excluded_samples:
        run.say(f"excluded {sample['sample_id']}: {sample['reason']} ({sample['detail']})")
    if not missing:
        return
    with _memory_error_as_one_line():
        originals = upload_originals(samples, run.device)
    original_results: dict[str, list[Judged]] = {}
    for task, group in missing:
        # one pass over the originals serves all groups of a localizer
        if task.name not in original_results:
            original_results[task.name] = _judge_originals(run, task, number, originals)
        _run_group(
            run,
            task,
            group,
            number,
            originals,
            original_results[task.name],
            excluded_samples,
            hash_futures,
            io_threads,
        )


def _judge_originals(run: RunContext, task: Task, number: int, originals: Originals) -> list[Judged]:
    """Judge the originals with the bare localizer, also for attacks through a defence: every RP refers to this result."""
    piece = WorkPiece(run.progress.add, task.effort.forward * len(task.split.shards[number]))
    with _memory_error_as_one_line():
        original_results = judge(
            undefended(task.localizer),
            originals.images,
            originals.masks,
            batch_size=run.batch_size,
            device=run.device,
            on_judged=lambda images: piece.add(images * task.effort.forward),
        )
    piece.finish()
    return original_results


def _run_group(
    run: RunContext,
    task: Task,
    group: Sequence[Setting],
    number: int,
    originals: Originals,
    original_results: Sequence[Judged],
    excluded_samples: Sequence[Mapping[str, str]],
    hash_futures: Mapping[str, Future[PixelHashes]],
    io_threads: IoThreads,
) -> None:
    start_time, threads = time.monotonic(), torch.get_num_threads()
    halved_sizes: dict[tuple[int, int], int] = {}
    gradients = queries = 0
    piece = WorkPiece(run.progress.add, task.effort.of_group(group) * len(task.split.shards[number]))

    def on_gradients(images: int) -> None:
        nonlocal gradients
        gradients += images
        # counted at once, so that after an interrupt the message can say what was lost
        run.gradients += images
        piece.add(images * task.effort.gradient)

    def on_queries(images: int) -> None:
        nonlocal queries
        queries += images
        piece.add(images * task.effort.forward)

    def on_halved(size: tuple[int, int], images: int) -> None:
        halved_sizes[size] = images
        message = f"out of memory at {size[0]}x{size[1]}: going on with {images} images at once"
        run.say(message)
        log_event(run.out, event="halved", split=task.split.name, shard=number, size=size, batch_size=images)

    with _memory_error_as_one_line(), gpu_use(run.device) as gpu_usage:
        batch_sizes = _measured_batch_sizes(run, task, originals.samples)
        finish = start_settings(
            task.localizer,
            originals,
            original_results,
            group,
            seed=run.seed,
            batch_size=run.batch_size,
            image_format=run.image_format,
            on_gradients=on_gradients,
            on_queries=on_queries,
            on_judged=lambda images: piece.add(images * task.effort.forward),
            on_halved=on_halved,
            batch_sizes=batch_sizes,
            submit=io_threads.submit,
        )
        gpu_fields = gpu_usage()

    def write() -> None:
        with _memory_error_as_one_line():
            results = finish()
        _refuse_all_out_of_memory(results)
        hashes = {sample_id: hash_future.result() for sample_id, hash_future in hash_futures.items()}
        written_configs = _write_group(run, task, group, number, results, excluded_samples, hashes)
        # only now: these gradients survive an interrupt
        run.committed_gradients += gradients
        piece.finish()
        log_event(
            run.out,
            event="group",
            process=os.getpid(),
            localizer=task.name,
            split=task.split.name,
            shard=number,
            settings=[f"{setting.attack}-{setting.label}" for setting in group],
            wrote=written_configs,
            device=run.device,
            batch_size=run.batch_size,
            # repair and resumed runs read this key, also in folders of earlier versions
            launches=[[*size, images] for size, images in batch_sizes.items()],
            halved=[[*size, images] for size, images in halved_sizes.items()],
            deterministic=run.deterministic,
            threads=threads,
            passes=gradients + queries,
            work=run.progress.unlogged(),
            seconds=round(time.monotonic() - start_time, 3),
            **gpu_fields,
        )

    io_threads.writer.put(write)


def _write_group(
    run: RunContext,
    task: Task,
    group: Sequence[Setting],
    number: int,
    results_by_setting: Mapping[Setting, Sequence[AttackedRow | Failure]],
    excluded_samples: Sequence[Mapping[str, str]],
    hashes: Mapping[str, PixelHashes],
) -> list[str]:
    """Commit the missing shards of a group; return their configs."""
    split, configs = task.split, task.configs()
    written_configs = []
    for setting, results in results_by_setting.items():
        config = configs[setting]
        # a group runs as a whole even if one config is missing; what is stored is not written again
        if stored_record(run.out, config, split, number):
            continue
        rows = [
            attacked_row(result, setting, task.localizer, task.name, split.name, hashes)
            for result in results
            if isinstance(result, AttackedRow)
        ]
        failures = [
            {"sample_id": result.sample_id, "reason": result.reason, "detail": result.detail}
            for result in results
            if isinstance(result, Failure)
        ]
        # recorded, so that a repair can run the same batches
        batch_configs = [configs[group_setting] for group_setting in group]
        members = {
            result.sample.sample_id: result.member
            for result in results
            if isinstance(result, AttackedRow) and result.member
        }
        _commit(
            run,
            config,
            split,
            number,
            rows,
            [*excluded_samples, *failures],
            batch_configs=batch_configs,
            members=members,
        )
        written_configs.append(config)
    return written_configs


def _refuse_all_out_of_memory(results_by_setting: Mapping[Setting, Sequence[AttackedRow | Failure]]) -> None:
    """Fail if no image fits into memory: then single large images are not the cause."""
    results = [result for rows in results_by_setting.values() for result in rows]
    if results and all(isinstance(result, Failure) and result.reason == OUT_OF_MEMORY for result in results):
        raise AfbenchError(f"{_NO_MEMORY} (even one image at a time)")


@contextmanager
def _memory_error_as_one_line() -> Iterator[None]:
    """Turn the errors that torch raises when memory runs out into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        raise_if_stopped()
        if not is_out_of_memory(error):
            raise
        raise AfbenchError(_NO_MEMORY) from None


def _measured_batch_sizes(
    run: RunContext, task: Task, samples: Sequence[Sample]
) -> dict[tuple[int, int], int]:
    """Measure the batch size of each image size; empty on a CPU or with ``--batch-size``, where nothing is measured.

    A batch size that an earlier run of the folder logged is used again, so that a resumed run makes the same batches.
    """
    if run.batch_size is not None or not run.device.startswith("cuda"):
        return {}
    batch_sizes = {}
    logged_sizes = logged_batch_sizes(run.out, task.name)
    for height, width in dict.fromkeys(sample.mask.shape for sample in samples):
        size = height, width
        if (task.name, size) not in run.measured_batch_sizes:
            run.measured_batch_sizes[task.name, size] = logged_sizes.get(size) or probe_max_batch(
                task.localizer, size, run.device
            )
        batch_sizes[size] = run.measured_batch_sizes[task.name, size]
    return batch_sizes


def _read(source: Source, sample_id: str) -> Sample | BadSample:
    try:
        return source.read(sample_id)
    # a Ctrl-C inside a decoder can look like a bad file, and must not exclude the sample
    except BadSample as problem:
        raise_if_stopped()
        return problem


def _samples(
    ids: Sequence[str], reading: Sequence[Future[Sample | BadSample]]
) -> tuple[list[Sample], list[dict[str, str]]]:
    samples, excluded_samples = [], []
    for sample_id, future in zip(ids, reading, strict=True):
        sample_or_problem = future.result()
        if isinstance(sample_or_problem, BadSample):
            excluded_samples.append(
                {
                    "sample_id": sample_id,
                    "reason": sample_or_problem.reason,
                    "detail": sample_or_problem.detail,
                }
            )
        else:
            samples.append(sample_or_problem)
    return samples, excluded_samples


def _clean_row(
    sample: Sample, split: str, image_format: ImageFormat, hash_future: Future[PixelHashes]
) -> dict[str, Any]:
    return clean_row(sample, split, image_format, hash_future.result())


def _commit(
    run: RunContext,
    config: str,
    split: Split,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    excluded_samples: Sequence[Mapping[str, str]],
    *,
    batch_configs: Sequence[str],
    members: Mapping[str, str],
) -> None:
    record = write_shard(
        run.out,
        split.path(config, number),
        config,
        rows,
        ids_sha256=ids_sha256(split.shards[number]),
        excluded=excluded_samples,
    )
    # originals come from the source: no device decides their bytes
    level = (
        promised_level(run.device, deterministic=run.deterministic, compiled=run.compiled)
        if batch_configs
        else ""
    )
    file_hashes = {} if batch_configs else split.source.files
    files = {
        row["sample_id"]: file_hashes[row["sample_id"]] for row in rows if row["sample_id"] in file_hashes
    }
    record = replace(
        record,
        together=batch_configs,
        image_format=run.image_format,
        determinism=level,
        files=files,
        members=members,
    )
    # after the file: a kill in between costs a shard, and leaves no record of a file that is missing
    commit_record(run.out, config, split.name, number, record)
    run.shards += 1
