"""Restore the benchmark that an archive was made of, with the user's own originals where the archive has none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afbench.core import AfbenchError, BadSample, ByteImage, Source, UsageError
from afbench.files import commit_if_changed, json_bytes, sha256_file
from afbench.images import encode_image, pixel_sha256
from afbench.interrupts import raise_if_stopped
from afbench.localizers import load_localizer
from afbench.localizers.untrained import RANDOM
from afbench.reading.copies import known_ids, open_copies, read_original
from afbench.reading.store import make_row
from afbench.storage.archive import attacked_image, open_checked
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.delivery import Delivery, delivering, finish, note, reopen
from afbench.storage.hdf5_read import Hdf5Shard
from afbench.storage.manifests import (
    CLEAN,
    ORIGINALS,
    TOP,
    Benchmark,
    count_rows,
    is_archive,
    open_benchmark,
    splits_of,
)
from afbench.storage.shard_format import path_in_format
from afbench.storage.shards import read_shards, write_shard
from afbench.storage.summary import SUMMARY_COLUMNS, summarise

from ..generation.finalise import finalise
from ..generation.model_size import MODEL, fit_source
from .export import shard_key

if TYPE_CHECKING:
    import pandas as pd


class Missing(NamedTuple):
    """A sample that was not restored; ``reason`` is ``missing_original``, ``other_original`` or ``other_mask``."""

    source: str
    sample_id: str
    reason: str
    detail: str


class _Original(NamedTuple):
    image: ByteImage
    mask: ByteImage


class _Copy(NamedTuple):
    """The user's copy of a source, with all its ids."""

    source: Source
    ids: frozenset[str]


@dataclass(frozen=True)
class Restored:
    """A restored benchmark; ``identical`` counts the shards that equal the original's byte for byte."""

    folder: Path
    images: int
    shards: int
    identical: int
    missing: Sequence[Missing]

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(sample.reason for sample in self.missing).items()))

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per sample that is missing: ``source``, ``sample_id``, ``reason``, ``detail``."""
        import pandas as pd

        return pd.DataFrame(self.missing, columns=list(Missing._fields))


def restore(
    archive: Path,
    out: Path,
    roots: Mapping[str, str | None],
    *,
    splits: Sequence[str] = (),
    start: Callable[[int], None] = lambda images: None,
    advance: Callable[[int], None] = lambda images: None,
) -> Restored:
    """Restore the images of an archive; only those whose decoded pixels have the recorded sha256 are stored.

    Samples whose original is missing or differs are listed and recorded as excluded. The same call goes on after an
    interruption, and tries the missing ones again.

    Args:
        archive: a folder of ``export --to hdf5``.
        out: a folder that is new, empty, or of the same restoration.
        roots: folders of the user's own copies, by source; those in ``AFBENCH_DATA`` and the embedded ones need none.
        splits: sources to restore; none for all.
        start: called once with the number of images.
        advance: called with the number of images just done.
    Raises:
        UsageError: if there is no such archive or source, a copy is needed and not given, or ``out`` holds something else.
        AfbenchError: if the archive is damaged, or not one original could be found.
    """
    benchmark = _open_archive(archive, splits)
    copies = _copies(benchmark, roots)
    request = {"command": "restore", "archive": sha256_file(archive / TOP), "splits": sorted(splits)}
    with delivering(out, request) as delivery:
        # a better copy may have what an earlier call lacked
        incomplete = {name for name, record in delivery.units.items() if record["missing"]}
        if delivery.finished and incomplete:
            reopen(delivery, incomplete)
        if not delivery.finished:
            for name in incomplete:
                delivery.units.pop(name, None)
            start(sum(map(count_rows, benchmark.configs.values())))
            _write(delivery, benchmark, copies, advance)
            _refuse_empty(delivery, archive)
            _close(delivery, benchmark)
            finish(delivery)
        units = list(delivery.units.values())
    return Restored(
        out,
        sum(record["record"]["rows"] for record in units),
        len(units),
        sum(record["identical"] for record in units),
        sorted({Missing(**fields) for record in units for fields in record["missing"]}),
    )


def _open_archive(archive: Path, splits: Sequence[str]) -> Benchmark:
    benchmark = open_benchmark(archive)
    if not is_archive(benchmark.configs[CLEAN]):
        raise UsageError(f"'{archive}' is no archive of `afbench export --to hdf5`")
    sources = sorted(benchmark.configs[CLEAN].splits)
    if unknown := [name for name in splits if name not in sources]:
        raise UsageError(f"--split '{unknown[0]}' is not in '{archive}'; its sources: {', '.join(sources)}")
    configs = {}
    for name, manifest in benchmark.configs.items():
        parts = {split: part for split, part in manifest.splits.items() if not splits or split in splits}
        if parts:
            configs[name] = replace(manifest, splits=parts)
    return Benchmark(archive, configs)


def _copies(benchmark: Benchmark, roots: Mapping[str, str | None]) -> dict[str, _Copy]:
    """Open the user's copies of the sources that the archive has no pixels of."""
    lacking = {
        split
        for name in ORIGINALS
        for split, part in splits_of(benchmark.configs, name).items()
        if part.archive is None or part.archive["content"] != "images"
    }
    copy_roots = {**dict.fromkeys(sorted(lacking)), **roots}
    if unknown := sorted(copy_roots.keys() - lacking):
        raise UsageError(
            f"--source {unknown[0]}: '{benchmark.folder}' needs no originals of it; "
            f"it needs those of: {', '.join(sorted(lacking)) or 'none'}"
        )
    copies = {}
    for name, source in open_copies(benchmark.configs, copy_roots).items():
        if benchmark.configs[CLEAN].splits[name].attack_at == MODEL:
            source = fit_source(source, _localizers(benchmark, name))  # noqa: PLW2901 - the same, resized
        copies[name] = _Copy(source, known_ids(source))
    return copies


def _localizers(benchmark: Benchmark, split: str) -> list[Any]:
    """Build the localizers that decided the size of a split; random weights do, for the size doesn't depend on them."""
    names = sorted(
        {
            manifest.provenance["localizer"]["architecture"]
            for manifest in benchmark.attacked.values()
            if split in manifest.splits
        }
    )
    return [load_localizer(name, RANDOM) for name in names]


def _write(
    delivery: Delivery, benchmark: Benchmark, copies: Mapping[str, _Copy], advance: Callable[[int], None]
) -> None:
    for kind in ORIGINALS:
        # attacked images need their originals, so both are restored while the originals are in memory
        configs = [kind, *(benchmark.attacked if kind == CLEAN else ())]
        for split, part in splits_of(benchmark.configs, kind).items():
            for number in range(len(part.shards)):
                todo = [
                    name
                    for name in configs
                    if split in benchmark.configs[name].splits
                    and shard_key(name, split, number) not in delivery.units
                ]
                if todo:
                    originals, missing = _originals(benchmark, kind, split, number, copies.get(split))
                for config in todo:
                    _write_shard(delivery, benchmark, config, split, number, originals, missing)
                advance(
                    sum(
                        benchmark.configs[name].splits[split].shards[number].rows
                        for name in configs
                        if split in benchmark.configs[name].splits
                    )
                )


def _open(benchmark: Benchmark, config: str, split: str, number: int) -> Hdf5Shard:
    """Open a shard of the archive; its bytes must have the sha256 in the manifest."""
    record = benchmark.configs[config].splits[split].shards[number]
    path = benchmark.folder / record.path
    if path.is_file() and sha256_file(path) != record.sha256:
        raise AfbenchError(f"'{path}' is damaged: it has another sha256 than its manifest names")
    shard = open_checked(benchmark.folder, record.path, config, split)
    if len(shard) != record.rows:
        shard.close()
        raise AfbenchError(f"'{path}' holds {len(shard)} rows, expected {record.rows}")
    return shard


def _originals(
    benchmark: Benchmark, kind: str, split: str, number: int, copy: _Copy | None
) -> tuple[dict[str, _Original], dict[str, Missing]]:
    """Return the originals of a shard by sample id, each checked by hash, and the samples whose original is missing."""
    originals: dict[str, _Original] = {}
    missing: dict[str, Missing] = {}
    shard = _open(benchmark, kind, split, number)
    try:
        for position in range(len(shard)):
            row = make_row(shard.scalars(position), kind, (shard.path.name, 0, position))
            if copy is None:
                original = _Original(shard.picture(position), shard.picture(position, "mask_data"))
                hashes = pixel_sha256(original.image), pixel_sha256(original.mask)
                if hashes != (row.image_sha256, row.mask_sha256):
                    raise AfbenchError(f"'{shard.path}': {row.sample_id} has other pixels than its row says")
                originals[row.sample_id] = original
                continue
            try:
                sample = read_original(copy.source, row, copy.ids)
                originals[row.sample_id] = _Original(sample.image, sample.mask)
            except BadSample as problem:
                # a Ctrl-C inside a decoder can look like a bad original
                raise_if_stopped()
                missing[row.sample_id] = Missing(split, row.sample_id, problem.reason, problem.detail)
    finally:
        shard.close()
    return originals, missing


def _write_shard(
    delivery: Delivery,
    benchmark: Benchmark,
    config: str,
    split: str,
    number: int,
    originals: Mapping[str, _Original],
    missing: Mapping[str, Missing],
) -> None:
    archived_record = benchmark.configs[config].splits[split].shards[number]
    rows, missing_samples = [], []
    shard = _open(benchmark, config, split, number)
    try:
        for position in range(len(shard)):
            row = shard.scalars(position)
            sample_id = row["sample_id"]
            if sample_id in missing:
                missing_samples.append(missing[sample_id])
                continue
            if sample_id not in originals:
                raise AfbenchError(f"'{shard.path}': {sample_id} is not among the originals of its shard")
            rows.append(_row(shard, position, row, originals[sample_id]))
    finally:
        shard.close()
    exclusions = [
        *archived_record.excluded,
        *(
            {"sample_id": sample.sample_id, "reason": sample.reason, "detail": sample.detail}
            for sample in missing_samples
        ),
    ]
    original_file = archived_record.parquet or archived_record.hdf5
    path = path_in_format(archived_record.path, "hdf5" if archived_record.hdf5 else "parquet")
    written_shard = write_shard(
        delivery.folder, path, config, rows, ids_sha256=archived_record.ids_sha256, excluded=exclusions
    )
    record = replace(
        archived_record,
        path=path,
        rows=written_shard.rows,
        bytes=written_shard.bytes,
        sha256=written_shard.sha256,
        first_id=written_shard.first_id,
        last_id=written_shard.last_id,
        excluded=exclusions,
        parquet=None,
        hdf5=None,
    )
    note(
        delivery,
        shard_key(config, split, number),
        {path: {"bytes": written_shard.bytes, "sha256": written_shard.sha256}},
        record=record.as_json(),
        missing=[sample._asdict() for sample in missing_samples],
        identical=original_file is not None and written_shard.sha256 == original_file["sha256"],
    )


def _row(shard: Hdf5Shard, position: int, row: Mapping[str, Any], original: _Original) -> dict[str, Any]:
    image = original.image if shard.config in ORIGINALS else attacked_image(shard, position, original.image)
    if pixel_sha256(image) != row["image_sha256"] or pixel_sha256(original.mask) != row["mask_sha256"]:
        raise AfbenchError(
            f"'{shard.path}' is damaged: {row['sample_id']} comes out with other pixels than its row says"
        )
    encoded = encode_image(image, "png" if shard.image_format == "png" else "webp")
    return {**row, "image": encoded, "mask": encode_image(original.mask)}


def _refuse_empty(delivery: Delivery, archive: Path) -> None:
    units = delivery.units.values()
    if not any(record["record"]["rows"] for record in units):
        missing = {Missing(**fields) for record in units for fields in record["missing"]}
        reasons = Counter(fields.reason for fields in missing)
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise AfbenchError(
            f"not one image of '{archive}' could be put together ({counts or 'it holds none'}); is it the right copy?"
        )


def _close(delivery: Delivery, benchmark: Benchmark) -> None:
    """Write the manifests of the restored shards, and publish the folder as a benchmark."""
    folder = delivery.folder
    for config, manifest in benchmark.configs.items():
        splits = {}
        for split, part in manifest.splits.items():
            units = [delivery.units[shard_key(config, split, number)] for number in range(len(part.shards))]
            shards = [ShardRecord.from_json(record["record"]) for record in units]
            summary = part.summary
            # the stored figures are over rows of which some are missing now
            if summary is not None and any(record["missing"] for record in units):
                summary = summarise(read_shards(folder, shards, SUMMARY_COLUMNS))
            splits[split] = replace(part, shards=shards, summary=summary, archive=None)
        restored = replace(manifest, splits=splits)
        commit_if_changed(folder / f"manifests/{config}.json", json_bytes(restored.as_json()))
    finalise(folder)
