"""Build the index of a source by checking a user's copy file by file, and read samples by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from afbench.core import AfbenchError, BadSample, Sample, Source, UsageError
from afbench.images import pixel_sha256
from afbench.resources import resource_json

from .check import check_entries
from .entry_reader import CANNOT_READ, read_entry
from .index_cache import (
    CachedRecord,
    Stamps,
    cache_path,
    entry_key,
    read_cached,
    reusable,
    stamps_of,
    write_cached,
)
from .index_records import Index, IndexRecord, read_index, samples_sha256
from .layouts import load_layout
from .layouts.release_faults import explain_known_exclusions
from .mask_exceptions import invert_exceptions
from .mask_rules import rule_for, split_rule
from .notes import index_notes, original_file_name
from .release_files import find_entries, list_files
from .source_entry import SourceEntry, SourceOptions

__all__ = ["Index", "build_index", "count_source", "list_files", "open_indexed"]

OnProgress = Callable[[int, int], None]
"""Called with the number of entries read so far and the number to read."""


def build_index(
    name: str,
    root: str | Path,
    options: SourceOptions,
    *,
    workers: int | None = None,
    full: bool = False,
    cache: bool = True,
    on_progress: OnProgress | None = None,
    decoded: dict[str, Sample] | None = None,
    inverted_ids: Sequence[str] = (),
) -> Index:
    """Check every sample of a user's copy.

    Args:
        name: the source.
        root: the folder of the copy, or the file of a list.
        options: the user's choices.
        workers: number of processes that read files.
        full: read every file, even those that seem not to have changed since the last index.
        cache: whether to read and to write the records in the user's cache folder.
        on_progress: called with the number of entries read so far and the number to read.
        inverted_ids: samples whose masks are the other way round than those of the rest.
        decoded: filled with the samples whose pixels may be kept (``check.DECODED_ENTRIES``), by id.
    Raises:
        UsageError: if the root is no folder, or holds nothing of this release, or has no such sample.
        AfbenchError: if a process that reads files dies.
    """
    source_path = _path(root)
    folder, all_entries = find_entries(name, source_path)
    base = folder.absolute()
    if inverted_ids:
        all_entries = invert_exceptions(all_entries, inverted_ids)
    entries = [entry for entry in all_entries if options.authentic or entry.label == "forged"]
    if not entries:
        raise UsageError(
            f"source {name}: only authentic images in '{source_path}', which count with --authentic"
        )
    for rule in sorted({entry.rule for entry in entries if entry.masks and entry.label == "forged"}):
        rule_for(split_rule(rule)[0], options.read)  # refuses options that say nothing of masks such as these
    # before any file is looked at: what changes from now on is not cached
    started_ns = time.time_ns()
    stamps = {entry.sample_id: stamps_of(base, entry) for entry in entries}
    path = cache_path(name, source_path.resolve(), options) if cache else None
    cached = reusable(read_cached(path), entries, stamps)
    records = {} if full else dict(cached)
    missing = [entry for entry in entries if entry.sample_id not in records]
    try:
        keep_pixels = decoded is not None
        checking = check_entries(base, missing, options, workers=workers, keep_pixels=keep_pixels)
        for done, (record, sample) in enumerate(checking, start=1):
            records[record.id] = record
            if decoded is not None and sample is not None:
                decoded[record.id] = sample
            if on_progress:
                on_progress(done, len(missing))
    finally:  # what was read before Ctrl-C need not be read again
        write_cached(path, _cacheable(entries, stamps, cached | records), started_ns)
    checked = explain_known_exclusions((records[entry.sample_id] for entry in entries), name)
    samples = _without_duplicates(_without_contradictions(checked, partial(_mask_of, base, options)))
    return Index(name, str(base), options, samples)


def _cacheable(
    entries: Sequence[SourceEntry], stamps: dict[str, Stamps | None], records: dict[str, IndexRecord]
) -> list[CachedRecord]:
    cached = []
    for entry in entries:
        stamp, record = stamps[entry.sample_id], records.get(entry.sample_id)
        if stamp is not None and record is not None and not _may_succeed_later(record):
            cached.append(CachedRecord(entry_key(entry), stamp, record))
    return cached


def _may_succeed_later(record: IndexRecord) -> bool:
    """Tell whether a file could not be read for lack of memory or by a fault of the system: the next try may succeed."""
    return record.reason == "unreadable" and (CANNOT_READ in record.detail or "MemoryError" in record.detail)


def _without_contradictions(
    samples: Sequence[IndexRecord], mask_of: Callable[[IndexRecord], str]
) -> list[IndexRecord]:
    """Exclude the forged samples of an image file that has different masks: nothing says which mask is right."""
    by_image: dict[str, list[IndexRecord]] = {}
    for record in samples:
        if record.included and record.label == "forged":
            by_image.setdefault(record.image_sha256, []).append(record)
    exclusions: dict[str, IndexRecord] = {}
    for candidates in by_image.values():
        if len({(record.mask_sha256, record.mask_rule) for record in candidates}) < 2:
            continue
        masks = {record.id: mask_of(record) for record in candidates}  # one mask may be stored in two ways
        for record in candidates:
            other_id = next((name for name, mask in masks.items() if mask != masks[record.id]), None)
            if other_id is not None:
                detail = f"the same image as {other_id}, with another mask"
                exclusions[record.id] = replace(
                    record, status="excluded", reason="contradicting_masks", detail=detail
                )
    return [exclusions.get(record.id, record) for record in samples]


def _mask_of(base: Path, options: SourceOptions, record: IndexRecord) -> str:
    """Hash the pixels that a mask marks, so that one mask stored in two ways counts once."""
    try:
        return pixel_sha256(read_entry(base, record.entry(), options).sample.mask)
    except BadSample:  # changed since a moment ago
        return record.mask_sha256


def _without_duplicates(samples: Sequence[IndexRecord]) -> list[IndexRecord]:
    """Exclude every sample whose image file an earlier sample has.

    Forged samples come first, so that they are the same with and without authentic ones.
    """
    first: dict[str, str] = {}
    for sample in sorted(
        (sample for sample in samples if sample.included), key=lambda sample: sample.label != "forged"
    ):
        first.setdefault(sample.image_sha256, sample.id)
    return [
        sample
        if not sample.included or first[sample.image_sha256] == sample.id
        else replace(
            sample,
            status="excluded",
            reason="duplicate_content",
            detail=f"the same file as {first[sample.image_sha256]}",
        )
        for sample in samples
    ]


def count_source(name: str, root: str) -> int:
    """Count the forged samples that a root or an index file names, without opening an image.

    Raises:
        UsageError: if the root holds nothing of the source.
    """
    path = _path(root)
    if _is_index(path):
        return _read_index_of(name, path).summary.included
    return sum(entry.label == "forged" and not entry.problem for entry in find_entries(name, path).entries)


def open_indexed(
    name: str,
    root: str | Path,
    options: SourceOptions,
    limit: int | None = None,
    *,
    pin: str | None = None,
    on_progress: OnProgress | None = None,
    keep_pixels: bool = False,
) -> Source:
    """Open a root, or an index file that ``afbench index --out`` wrote, as a source.

    Its ids name the forged samples, included or excluded, up to the ``limit``-th included one, and in the same way the
    authentic samples, if the options ask for them. With ``keep_pixels`` what is decoded for the index is not decoded again
    when it is read for the first time, as far as little memory goes.

    Raises:
        UsageError: if the root holds nothing of the source, or the index file is damaged or of another source.
    """
    path = _path(root)
    decoded: dict[str, Sample] = {}
    if _is_index(path):
        index = _with_options(_read_index_of(name, path), options, path)
    else:
        index = build_index(
            name, path, options, on_progress=on_progress, decoded=decoded if keep_pixels else None
        )
    index_sha256 = index.without_authentic().sha256
    if pin is not None and pin not in (index_sha256, index.sha256):
        raise UsageError(
            f"source {name}: '{path}' is not the copy that is pinned: its index has sha256 {index_sha256}, expected {pin}; "
            f"compare with `afbench index {name} --root ... --json`"
        )
    # excluded samples stay in the source, so that a manifest can count them by reason
    forged, authentic = (
        _first([sample for sample in index.samples if sample.label == label], limit)
        for label in ("forged", "authentic")
    )
    records = {record.id: record for record in (*forged, *authentic)}
    pixels = {key: decoded[key] for key, record in records.items() if record.included and key in decoded}
    manifest = resource_json("sources").get(name, {})
    # what is authentic leaves the fingerprint of the forged ones alone: it can be asked for later
    plain = replace(index.options, authentic=False)
    return Source(
        name=name,
        ids=[sample.id for sample in forged],
        read=partial(_read, index, records, pixels),
        sha256=samples_sha256(name, plain, forged),
        terms=manifest.get("terms", "the user's own; not known to afbench"),
        citation=manifest.get("citation", ""),
        redistribution=manifest.get("redistribution", "unclear"),
        authentic=[sample.id for sample in authentic],
        authentic_sha256=samples_sha256(name, plain, authentic) if authentic else "",
        sha256_of=partial(_sha256_of_first, name, plain, forged),
        authentic_sha256_of=partial(_sha256_of_first, name, plain, authentic),
        pixels={sample.id: (sample.width or 0) * (sample.height or 0) for sample in (*forged, *authentic)},
        read_options=index.options.read,
        files={
            sample.id: name
            for sample in (*forged, *authentic)
            if sample.included and (name := original_file_name(sample))
        },
        notes=index_notes(index),
    )


def _sha256_of_first(name: str, options: SourceOptions, samples: Sequence[IndexRecord], count: int) -> str:
    return samples_sha256(name, options, samples[:count])


def _path(root: str | Path) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError:  # no such user
        return Path(root)


def _is_index(path: Path) -> bool:
    """Tell whether a path is an index, a JSON object; a user's own JSON list of images is an array."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return not stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return True


def _read_index_of(name: str, path: Path) -> Index:
    load_layout(name)
    index = read_index(path)
    if index.source != name:
        raise UsageError(f"index '{path}' is of source {index.source}, not of {name}")
    if not Path(index.root).is_dir():
        raise UsageError(f"index '{path}' was made of '{index.root}', which is no folder here; make it again")
    return index


def _with_options(index: Index, options: SourceOptions, path: Path) -> Index:
    """Return the index for the options; refuse options that it was not made with."""
    if options.authentic and not index.options.authentic:
        raise UsageError(f"index '{path}' was made without --authentic; make it again with it")
    plain = SourceOptions()
    for key in ("on_mismatch", "invert", "read"):
        if getattr(options, key) not in (getattr(plain, key), getattr(index.options, key)):
            setting = "way to read pixels" if key == "read" else key.replace("_", " ")
            raise UsageError(f"index '{path}' was made with another {setting}; make it again")
    return index if options.authentic else index.without_authentic()


def _first(samples: Sequence[IndexRecord], limit: int | None) -> Sequence[IndexRecord]:
    included = [position for position, sample in enumerate(samples) if sample.included]
    return samples if limit is None or limit > len(included) else samples[: included[limit - 1] + 1]


def _read(
    index: Index, records: dict[str, IndexRecord], decoded: dict[str, Sample], sample_id: str
) -> Sample:
    record = records[sample_id]
    if not record.included:
        raise BadSample(record.reason, record.detail)
    # what was decoded for the index has its hashes, whatever became of the file since
    if sample := decoded.pop(sample_id, None):
        return sample
    try:
        contents = read_entry(Path(index.root), record.entry(), index.options)
    except BadSample as problem:
        raise _changed(index, record, f"{record.image} or its mask", f"is excluded now, {problem}") from None
    if contents.image_sha256 != record.image_sha256:
        raise _changed(index, record, str(record.image), "has another content")
    if contents.mask_sha256 != record.mask_sha256:
        raise _changed(index, record, ", ".join(record.mask), "has another content")
    return contents.sample


def _changed(index: Index, record: IndexRecord, file: str, change: str) -> AfbenchError:
    return AfbenchError(
        f"source {index.source} changed since it was indexed: {ascii(file)[1:-1]} {change} (sample {record.id}); "
        f"run `afbench index {index.source} --root {index.root} --full` and generate into a new folder"
    )
