"""From an archive, and the user's own originals where it has none, to the benchmark it was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, BadSample, ByteImage, Source, UsageError
from afbench.images import encode_image, pixel_sha256
from afbench.interrupts import raise_if_stopped
from afbench.localizers import load_localizer
from afbench.reading.copies import known_ids, open_copies, read_original
from afbench.reading.store import make_row
from afbench.storage.archive import attacked_image, is_archive, open_checked
from afbench.storage.commit import commit_if_changed, json_bytes, sha256_file
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.delivery import Delivery, delivering, finish, note, reopen
from afbench.storage.hdf5_read import ArchiveShard
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    open_benchmark,
    splits_of,
)
from afbench.storage.shards import read_rows, write_shard
from afbench.storage.summary import SUMMARY_COLUMNS, summarise

from ..generation.finalise import finalise
from ..generation.model_size import MODEL, fit_source
from .export import unit_name


class Missing(NamedTuple):
    """A sample that was not put together: ``missing_original``, ``other_original`` or ``other_mask``, and what was found."""

    source: str
    sample_id: str
    reason: str
    detail: str


class _Original(NamedTuple):
    image: ByteImage
    mask: ByteImage


class _Copy(NamedTuple):
    """A source opened at the user's, with all its ids."""

    source: Source
    known: frozenset[str]


@dataclass(frozen=True)
class Restored:
    """A benchmark put together: its images, how many of its shards are byte for byte the original's, and what is missing."""

    folder: Path
    images: int
    shards: int
    identical: int
    missing: Sequence[Missing]

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(one.reason for one in self.missing).items()))


def restore(
    archive: Path,
    out: Path,
    roots: Mapping[str, str | None],
    *,
    splits: Sequence[str] = (),
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Restored:
    """Put the images of an archive together; only those whose decoded pixels have the recorded sha256 are stored.

    Samples whose original is missing or another are listed and recorded as excluded. The same command goes on after an
    interruption, and tries again those that were missing.

    Args:
        archive: a folder of ``export --to hdf5``.
        out: a folder that is new, empty, or of the same restoration.
        roots: of the user's own copies, by source; those in ``AFBENCH_DATA`` and the embedded ones need none.
        splits: sources to restore; none for all.
        start: told how many images there are.
        advance: told how many were just done.
    Raises:
        UsageError: if there is no such archive or source, a copy is needed and not given, or ``out`` holds something else.
        AfbenchError: if the archive is damaged, or not one original could be found.
    """
    held = _chosen(archive, splits)
    copies = _copies(held, roots)
    request = {"command": "restore", "archive": sha256_file(archive / TOP), "splits": sorted(splits)}
    with delivering(out, request) as delivery:
        again = {name for name, record in delivery.units.items() if record["missing"]}
        if delivery.finished and again:
            reopen(delivery, again)
        if not delivery.finished:
            for name in again:
                delivery.units.pop(name, None)
            start(sum(map(count_rows, held.configs.values())))
            _write(delivery, held, copies, advance)
            _refuse_nothing(delivery, archive)
            _close(delivery, held)
            finish(delivery)
        units = list(delivery.units.values())
    return Restored(
        out,
        sum(record["record"]["rows"] for record in units),
        len(units),
        sum(record["identical"] for record in units),
        sorted({Missing(**one) for record in units for one in record["missing"]}),
    )


def _chosen(archive: Path, splits: Sequence[str]) -> Benchmark:
    held = open_benchmark(archive)
    if not is_archive(held.configs[CLEAN]):
        raise UsageError(f"'{archive}' is no archive of `afbench export --to hdf5`")
    known = sorted(held.configs[CLEAN].splits)
    if unknown := [name for name in splits if name not in known]:
        raise UsageError(f"--split '{unknown[0]}' is not in '{archive}'; its sources: {', '.join(known)}")
    configs = {}
    for name, manifest in held.configs.items():
        parts = {split: part for split, part in manifest.splits.items() if not splits or split in splits}
        if parts:
            configs[name] = replace(manifest, splits=parts)
    return Benchmark(archive, configs)


def _copies(held: Benchmark, roots: Mapping[str, str | None]) -> dict[str, _Copy]:
    """The sources that the archive has no pixels of."""
    lacking = {
        split
        for name in ORIGINALS
        for split, part in splits_of(held.configs, name).items()
        if part.archive is None or part.archive["content"] != "images"
    }
    wanted = {**dict.fromkeys(sorted(lacking)), **roots}
    if unknown := sorted(wanted.keys() - lacking):
        raise UsageError(
            f"--source {unknown[0]}: '{held.folder}' needs no originals of it; "
            f"it needs those of: {', '.join(sorted(lacking)) or 'none'}"
        )
    found = {}
    for name, source in open_copies(held.configs, wanted).items():
        if held.configs[CLEAN].splits[name].attack_at == MODEL:
            source = fit_source(source, _localizers(held, name))  # noqa: PLW2901 - the same, resized
        found[name] = _Copy(source, known_ids(source))
    return found


def _localizers(held: Benchmark, split: str) -> list[Any]:
    """The localizers that decided the size of a split; without their weights, which do not."""
    names = sorted(
        {one.provenance["localizer"]["architecture"] for one in held.attacked.values() if split in one.splits}
    )
    return [load_localizer(name, "random") for name in names]


def _write(
    delivery: Delivery, held: Benchmark, copies: Mapping[str, _Copy], advance: Callable[[int], None]
) -> None:
    for kind in ORIGINALS:
        # what was made of originals is put together while these are in memory
        configs = [kind, *(held.attacked if kind == CLEAN else ())]
        for split, part in splits_of(held.configs, kind).items():
            for number in range(len(part.shards)):
                todo = [
                    name
                    for name in configs
                    if split in held.configs[name].splits
                    and unit_name(name, split, number) not in delivery.units
                ]
                if todo:
                    originals, missing = _originals(held, kind, split, number, copies.get(split))
                for config in todo:
                    _write_shard(delivery, held, config, split, number, originals, missing)
                advance(
                    sum(
                        held.configs[name].splits[split].shards[number].rows
                        for name in configs
                        if split in held.configs[name].splits
                    )
                )


def _open(held: Benchmark, config: str, split: str, number: int) -> ArchiveShard:
    """A shard whose bytes are those that the manifest names."""
    record = held.configs[config].splits[split].shards[number]
    path = held.folder / record.path
    if path.is_file() and sha256_file(path) != record.sha256:
        raise AfbenchError(f"'{path}' is damaged: it has another sha256 than its manifest names")
    shard = open_checked(held.folder, record.path, config, split)
    if len(shard) != record.rows:
        shard.close()
        raise AfbenchError(f"'{path}' holds {len(shard)} rows, expected {record.rows}")
    return shard


def _originals(
    held: Benchmark, kind: str, split: str, number: int, copy: _Copy | None
) -> tuple[dict[str, _Original], dict[str, Missing]]:
    """Originals by sample id, each checked by hash, and those that cannot be had."""
    found: dict[str, _Original] = {}
    missing: dict[str, Missing] = {}
    shard = _open(held, kind, split, number)
    try:
        for place in range(len(shard)):
            row = make_row(shard.scalars(place), kind, (shard.path.name, 0, place))
            if copy is None:
                original = _Original(shard.picture(place), shard.picture(place, "mask_data"))
                hashes = pixel_sha256(original.image), pixel_sha256(original.mask)
                if hashes != (row.image_sha256, row.mask_sha256):
                    raise AfbenchError(f"'{shard.path}': {row.sample_id} has other pixels than its row says")
                found[row.sample_id] = original
                continue
            try:
                sample = read_original(copy.source, row, copy.known)
                found[row.sample_id] = _Original(sample.image, sample.mask)
            except BadSample as problem:
                raise_if_stopped()
                missing[row.sample_id] = Missing(split, row.sample_id, problem.reason, problem.detail)
    finally:
        shard.close()
    return found, missing


def _write_shard(
    delivery: Delivery,
    held: Benchmark,
    config: str,
    split: str,
    number: int,
    originals: Mapping[str, _Original],
    missing: Mapping[str, Missing],
) -> None:
    was = held.configs[config].splits[split].shards[number]
    rows, lost = [], []
    shard = _open(held, config, split, number)
    try:
        for place in range(len(shard)):
            row = shard.scalars(place)
            sample_id = row["sample_id"]
            if sample_id in missing:
                lost.append(missing[sample_id])
                continue
            if sample_id not in originals:
                raise AfbenchError(f"'{shard.path}': {sample_id} is not among the originals of its shard")
            rows.append(_row(shard, place, row, originals[sample_id]))
    finally:
        shard.close()
    excluded = [
        *was.excluded,
        *({"sample_id": one.sample_id, "reason": one.reason, "detail": one.detail} for one in lost),
    ]
    path = was.path.removesuffix(".h5") + ".parquet"
    made = write_shard(delivery.folder, path, config, rows, ids_sha256=was.ids_sha256, excluded=excluded)
    record = replace(
        was,
        path=path,
        rows=made.rows,
        bytes=made.bytes,
        sha256=made.sha256,
        first_id=made.first_id,
        last_id=made.last_id,
        excluded=excluded,
        parquet=None,
    )
    note(
        delivery,
        unit_name(config, split, number),
        {path: {"bytes": made.bytes, "sha256": made.sha256}},
        record=record.as_json(),
        missing=[one._asdict() for one in lost],
        identical=was.parquet is not None and made.sha256 == was.parquet["sha256"],
    )


def _row(shard: ArchiveShard, place: int, row: Mapping[str, Any], original: _Original) -> dict[str, Any]:
    image = original.image if shard.config in ORIGINALS else attacked_image(shard, place, original.image)
    if pixel_sha256(image) != row["image_sha256"] or pixel_sha256(original.mask) != row["mask_sha256"]:
        raise AfbenchError(
            f"'{shard.path}' is damaged: {row['sample_id']} comes out with other pixels than its row says"
        )
    encoded = encode_image(image, "png" if shard.image_format == "png" else "webp")
    return {**row, "image": encoded, "mask": encode_image(original.mask)}


def _refuse_nothing(delivery: Delivery, archive: Path) -> None:
    units = delivery.units.values()
    if not any(record["record"]["rows"] for record in units):
        missing = {Missing(**one) for record in units for one in record["missing"]}
        reasons = Counter(one.reason for one in missing)
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise AfbenchError(
            f"not one image of '{archive}' could be put together ({told or 'it holds none'}); is it the right copy?"
        )


def _close(delivery: Delivery, held: Benchmark) -> None:
    """Write the manifests of what is there, and publish it as a benchmark."""
    folder = delivery.folder
    for config, manifest in held.configs.items():
        splits = {}
        for split, part in manifest.splits.items():
            units = [delivery.units[unit_name(config, split, one)] for one in range(len(part.shards))]
            shards = [ShardRecord.from_json(record["record"]) for record in units]
            summary = part.summary
            if summary is not None and any(record["missing"] for record in units):
                paths = [shard.path for shard in shards]
                summary = summarise(read_rows(folder, paths, SUMMARY_COLUMNS))
            splits[split] = replace(part, shards=shards, summary=summary, archive=None)
        restored = replace(manifest, splits=splits)
        commit_if_changed(folder / f"manifests/{config}.json", json_bytes(restored.as_json()))
    finalise(folder)
