"""Read every entry of a source once, in several processes, and record what it holds."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from afbench.core import AfbenchError, BadSample, Sample
from afbench.cores import usable_cores
from afbench.interrupts import raise_if_stopped

from .entry_reader import read_bytes, read_entry
from .index_records import IndexRecord
from .mask_rules import MASK_RULES, split_rule
from .source_entry import SourceEntry, SourceOptions

MIN_POOLED = 64
"""With fewer entries, one process reads them sooner than others start."""
CHUNK = 8
"""Entries that a process gets at a time. Small, because Ctrl-C waits until they are read."""
DECODED_ENTRIES = 256
"""So many entries, the first ones, may keep their pixels for whoever reads them next, as long as each takes at most
``DECODED_BYTES``."""
DECODED_BYTES = 2**20


class CheckedEntry(NamedTuple):
    """An entry's index record, and its pixels where they are kept."""

    record: IndexRecord
    sample: Sample | None


def check_entries(
    root: Path,
    entries: Sequence[SourceEntry],
    options: SourceOptions,
    *,
    workers: int | None = None,
    keep_pixels: bool = False,
) -> Iterator[CheckedEntry]:
    """Yield the index record of every entry, in the order of the entries.

    Args:
        root: the folder that the entries' paths begin in.
        entries: what to read.
        options: the user's choices.
        workers: number of processes; None takes one for each core, at most 8.
        keep_pixels: add the pixels of the first entries, if they are small, so that nobody need decode them again.
    Raises:
        AfbenchError: if a process dies.
    """
    examine = partial(examine_entry, root, options)
    keep_flags = [keep_pixels and position < DECODED_ENTRIES for position in range(len(entries))]
    workers = min(workers or min(8, usable_cores()), -(-len(entries) // CHUNK))
    # a daemon, such as a worker of a data loader, may not start processes
    if len(entries) < MIN_POOLED or workers < 2 or multiprocessing.current_process().daemon:
        yield from map(examine, entries, keep_flags)
        return
    done = 0
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    try:
        with _main_hidden():
            results = pool.map(examine, entries, keep_flags, chunksize=CHUNK)
        for examined in results:
            done += 1
            yield examined
    except BrokenProcessPool:
        raise_if_stopped()
        # the pool does not say which process died; results come in order, so this is the first entry without one
        nearest = entries[min(done, len(entries) - 1)].image
        raise AfbenchError(
            f"a process that checks files died, out of memory or of a damaged file, near {nearest!a} or the "
            f"{CHUNK * workers} entries behind it; `--workers 1` takes the least memory"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def examine_entry(
    root: Path, options: SourceOptions, entry: SourceEntry, keep_pixels: bool = False
) -> CheckedEntry:
    """Read one entry and return its index record; a bad entry is excluded with its reason."""
    forged = entry.label == "forged"
    make_record = partial(
        IndexRecord,
        id=entry.sample_id,
        image=entry.image,
        mask=entry.masks,
        label=entry.label,
        mask_rule=entry.rule if forged else "",
        polarity=MASK_RULES[split_rule(entry.rule)[0]].polarity if forged else "",
        group=entry.group or entry.sample_id,
        kind=entry.kind,
    )
    try:
        contents = read_entry(root, entry, options)
    except BadSample as problem:
        raise_if_stopped()
        # what is broken by its name alone is not opened
        hashes = ("", "") if entry.problem else _hashes(root, entry)
        record = make_record(
            status="excluded",
            reason=problem.reason,
            detail=_ascii(problem.detail),
            image_sha256=hashes[0],
            mask_sha256=hashes[1],
        )
        return CheckedEntry(record, None)
    sample = contents.sample
    height, width = sample.mask.shape
    record = make_record(
        status="included",
        width=width,
        height=height,
        mode=contents.mode,
        mask_fraction=_share(np.count_nonzero(sample.mask) / sample.mask.size) if forged else None,
        mask_grey_fraction=_share(contents.mask_grey_fraction) if forged else None,
        exif_orientation=contents.exif_orientation,
        resized=contents.resized,
        image_sha256=contents.image_sha256,
        mask_sha256=contents.mask_sha256,
    )
    keep = keep_pixels and sample.image.nbytes + sample.mask.nbytes <= DECODED_BYTES
    return CheckedEntry(record, sample if keep else None)


def _ascii(text: str) -> str:
    """Escape what is not ASCII: a detail may hold a file name that is not Unicode, and an index must be."""
    return text.encode("ascii", "backslashreplace").decode()


def _share(value: float) -> float:
    return round(float(value), 9)


def _hashes(root: Path, entry: SourceEntry) -> tuple[str, str]:
    """Hash the files of an entry that cannot be used, so that the index tells one broken file from another."""
    image = _hash(root, entry.image) if entry.image else ""
    masks = [_hash(root, path) for path in entry.masks] if entry.label == "forged" else []
    if len(masks) < 2 or not all(masks):
        return image, masks[0] if len(masks) == 1 else ""
    return image, hashlib.sha256("".join(masks).encode()).hexdigest()


def _hash(root: Path, path: str) -> str:
    try:
        return hashlib.sha256(read_bytes(root, path)).hexdigest()
    except BadSample:
        return ""


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Hide the user's script while processes start: each of them would run it from its first line.

    Block Ctrl-C meanwhile: it would end a process that has not reached ``_begin_worker`` with a traceback.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)


def _begin_worker() -> None:
    """Ignore Ctrl-C, which the parent process handles, and end when the parent ends, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
