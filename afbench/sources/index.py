"""The index of a source: what a user's copy holds, checked file by file, and samples read back from it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from afbench.core import AfbenchError, BadSample, Sample, Source, UsageError
from afbench.images import pixel_sha256
from afbench.shipped import shipped_json

from .check import check_entries
from .entry import Entry, SourceOptions
from .facts import Index, SampleFacts, read_index, samples_sha256
from .index_cache import Kept, Stamps, cache_path, entry_key, keep, read_kept, reusable, stamps_of
from .layouts import load_layout
from .layouts.known import explain
from .listing import find_entries, list_files
from .masks import rule_for
from .notes import index_notes, unspelt
from .reading import CANNOT_READ, read_entry

__all__ = ["Index", "build_index", "count_source", "list_files", "open_indexed"]

OnProgress = Callable[[int, int], None]
"""Told how many entries have been read, of how many."""


def build_index(
    name: str,
    root: str | Path,
    options: SourceOptions,
    *,
    workers: int | None = None,
    full: bool = False,
    cache: bool = True,
    on_progress: OnProgress | None = None,
) -> Index:
    """Check every sample of a user's copy.

    Args:
        name: of the source.
        root: the folder of the copy, or the file of a list.
        options: the user's choices.
        workers: number of processes that read files.
        full: read every file, even those that seem not to have changed since the last index.
        cache: whether to use and to write what is kept in the user's cache folder.
        on_progress: told how many of the entries to be read have been read.
    Raises:
        UsageError: if the root is no folder, or holds nothing of this release.
        AfbenchError: if a process that reads files dies.
    """
    given = _path(root)
    found, every = find_entries(name, given)
    base = found.absolute()
    entries = [entry for entry in every if options.authentic or entry.label == "forged"]
    if not entries:
        raise UsageError(f"source {name}: only authentic images in '{given}', which count with --authentic")
    for rule in sorted({entry.rule for entry in entries if entry.masks and entry.label == "forged"}):
        rule_for(rule, options.read)  # refuses options that say nothing of masks such as these
    started = time.time_ns()
    stamps = {entry.sample_id: stamps_of(base, entry) for entry in entries}
    path = cache_path(name, given.resolve(), options) if cache else None
    before = reusable(read_kept(path), entries, stamps)
    facts = {} if full else dict(before)
    missing = [entry for entry in entries if entry.sample_id not in facts]
    try:
        for done, one in enumerate(check_entries(base, missing, options, workers=workers), start=1):
            facts[one.id] = one
            if on_progress:
                on_progress(done, len(missing))
    finally:  # what was read before Ctrl-C need not be read again
        keep(path, _kept(entries, stamps, before | facts), started)
    checked = explain((facts[entry.sample_id] for entry in entries), name)
    samples = _without_duplicates(_without_contradictions(checked, partial(_mask_of, base, options)))
    return Index(name, str(base), options, samples)


def _kept(
    entries: Sequence[Entry], stamps: dict[str, Stamps | None], facts: dict[str, SampleFacts]
) -> list[Kept]:
    found = []
    for entry in entries:
        stamp, one = stamps[entry.sample_id], facts.get(entry.sample_id)
        if stamp is not None and one is not None and not _may_pass(one):
            found.append(Kept(entry_key(entry), stamp, one))
    return found


def _may_pass(facts: SampleFacts) -> bool:
    """Whether a file was not read for want of memory or by the system's fault, which may be over the next time."""
    return facts.reason == "unreadable" and (CANNOT_READ in facts.detail or "MemoryError" in facts.detail)


def _without_contradictions(
    samples: Sequence[SampleFacts], mask_of: Callable[[SampleFacts], str]
) -> list[SampleFacts]:
    """Exclude all forged samples of one image file whose masks differ: nothing says which of them is right."""
    by_image: dict[str, list[SampleFacts]] = {}
    for one in samples:
        if one.included and one.label == "forged":
            by_image.setdefault(one.image_sha256, []).append(one)
    excluded: dict[str, SampleFacts] = {}
    for same in by_image.values():
        if len({one.mask_sha256 for one in same}) < 2:
            continue
        masks = {one.id: mask_of(one) for one in same}  # one mask may be stored in two ways
        for one in same:
            other = next((name for name, mask in masks.items() if mask != masks[one.id]), None)
            if other is not None:
                told = f"the same image as {other}, with another mask"
                excluded[one.id] = replace(one, status="excluded", reason="contradicting_masks", detail=told)
    return [excluded.get(one.id, one) for one in samples]


def _mask_of(base: Path, options: SourceOptions, facts: SampleFacts) -> str:
    """Tells one mask from another by what it marks."""
    try:
        return pixel_sha256(read_entry(base, facts.entry(), options).sample.mask)
    except BadSample:  # changed since a moment ago
        return facts.mask_sha256


def _without_duplicates(samples: Sequence[SampleFacts]) -> list[SampleFacts]:
    """Exclude later samples with an image file that an earlier one has.

    Forged samples come first, so that they do not depend on whether authentic ones are asked for.
    """
    first: dict[str, str] = {}
    for one in sorted((one for one in samples if one.included), key=lambda one: one.label != "forged"):
        first.setdefault(one.image_sha256, one.id)
    return [
        one
        if not one.included or first[one.image_sha256] == one.id
        else replace(
            one,
            status="excluded",
            reason="duplicate_content",
            detail=f"the same file as {first[one.image_sha256]}",
        )
        for one in samples
    ]


def count_source(name: str, root: str) -> int:
    """Forged samples a root or an index file promises, without opening an image.

    Raises:
        UsageError: if there is nothing of the source.
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
) -> Source:
    """Open a root, or an index file that ``afbench index --out`` wrote, as a source.

    Its ids are every forged sample, included or excluded, up to the ``limit``-th included one; likewise those of its
    authentic samples, if the options ask for them.

    Raises:
        UsageError: if the root holds nothing of the source, or the index file is none or another's.
    """
    path = _path(root)
    if _is_index(path):
        index = _with_options(_read_index_of(name, path), options, path)
    else:
        index = build_index(name, path, options, on_progress=on_progress)
    found = index.without_authentic().sha256
    if pin is not None and pin not in (found, index.sha256):
        raise UsageError(
            f"source {name}: '{path}' is not the copy that is pinned: its index has sha256 {found}, expected {pin}; "
            f"compare with `afbench index {name} --root ... --json`"
        )
    forged, authentic = (
        _first([one for one in index.samples if one.label == label], limit)
        for label in ("forged", "authentic")
    )
    manifest = shipped_json("sources").get(name, {})
    # what is authentic leaves the fingerprint of the forged ones alone: it can be asked for later
    plain = replace(index.options, authentic=False)
    return Source(
        name,
        [one.id for one in forged],
        partial(_read, index, {one.id: one for one in (*forged, *authentic)}),
        samples_sha256(name, plain, forged),
        terms=manifest.get("terms", "the user's own; not known to afbench"),
        citation=manifest.get("citation", ""),
        redistribution=manifest.get("redistribution", "unclear"),
        authentic=[one.id for one in authentic],
        authentic_sha256=samples_sha256(name, plain, authentic) if authentic else "",
        sha256_of=partial(_sha256_of_first, name, plain, forged),
        authentic_sha256_of=partial(_sha256_of_first, name, plain, authentic),
        pixels={one.id: (one.width or 0) * (one.height or 0) for one in (*forged, *authentic)},
        read_options=index.options.read,
        files={one.id: name for one in (*forged, *authentic) if one.included and (name := unspelt(one))},
        notes=index_notes(index),
    )


def _sha256_of_first(name: str, options: SourceOptions, samples: Sequence[SampleFacts], count: int) -> str:
    return samples_sha256(name, options, samples[:count])


def _path(root: str | Path) -> Path:
    try:
        return Path(root).expanduser()
    except RuntimeError:  # no such user
        return Path(root)


def _is_index(path: Path) -> bool:
    """An index is a JSON object; a user's own JSON list of images is an array."""
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
    """What an index was made with holds, unless the user asks for something else."""
    if options.authentic and not index.options.authentic:
        raise UsageError(f"index '{path}' was made without --authentic; make it again with it")
    plain = SourceOptions()
    for key in ("on_mismatch", "invert", "read"):
        if getattr(options, key) not in (getattr(plain, key), getattr(index.options, key)):
            what = "way to read pixels" if key == "read" else key.replace("_", " ")
            raise UsageError(f"index '{path}' was made with another {what}; make it again")
    return index if options.authentic else index.without_authentic()


def _first(samples: Sequence[SampleFacts], limit: int | None) -> Sequence[SampleFacts]:
    included = [position for position, one in enumerate(samples) if one.included]
    return samples if limit is None or limit > len(included) else samples[: included[limit - 1] + 1]


def _read(index: Index, samples: dict[str, SampleFacts], sample_id: str) -> Sample:
    facts = samples[sample_id]
    if not facts.included:
        raise BadSample(facts.reason, facts.detail)
    try:
        read = read_entry(Path(index.root), facts.entry(), index.options)
    except BadSample as problem:
        raise _changed(index, facts, f"{facts.image} or its mask", f"is excluded now, {problem}") from None
    if read.image_sha256 != facts.image_sha256:
        raise _changed(index, facts, str(facts.image), "has another content")
    if read.mask_sha256 != facts.mask_sha256:
        raise _changed(index, facts, ", ".join(facts.mask), "has another content")
    return read.sample


def _changed(index: Index, facts: SampleFacts, file: str, what: str) -> AfbenchError:
    return AfbenchError(
        f"source {index.source} changed since it was indexed: {ascii(file)[1:-1]} {what} (sample {facts.id}); "
        f"run `afbench index {index.source} --root {index.root} --full` and generate into a new folder"
    )
