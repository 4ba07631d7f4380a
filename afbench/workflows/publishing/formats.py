"""The formats of an export: the files that one shard becomes, and the manifests and tables over all shards."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from afbench.core import AfbenchError, BadSample, ByteImage, ShardFormat
from afbench.files import json_bytes
from afbench.images import decode_stored, encode_image
from afbench.storage.archive import pack_shard
from afbench.storage.config_manifest import ConfigManifest, ShardRecord
from afbench.storage.hdf5 import Content, scalar_columns
from afbench.storage.manifests import CLEAN, ORIGINALS
from afbench.storage.shard_format import format_of_path, path_in_format

FORMATS = ("hdf5", "hdf5-benchmark", "parquet", "imagefolder", "webdataset")
BENCHMARKS: Mapping[str, ShardFormat] = {"parquet": "parquet", "hdf5-benchmark": "hdf5"}
"""The forms that are benchmarks again, with the format of their shards."""
MASKS = "masks"


@dataclass(frozen=True)
class ExportShard:
    """One shard to export, with its rows; ``originals`` are the decoded images of ``clean`` by sample id."""

    config: str
    split: str
    record: ShardRecord
    rows: Sequence[Mapping[str, Any]]
    originals: Mapping[str, ByteImage]


def hdf5_files(shard: ExportShard, content: Content) -> dict[str, bytes]:
    """Return one HDF5 file with the rows of a shard."""
    data = pack_shard(shard.config, shard.split, shard.rows, shard.originals, content=content)
    return {path_in_format(shard.record.path, "hdf5"): data}


def imagefolder_files(shard: ExportShard) -> dict[str, bytes]:
    """Return a PNG per image and, of originals, one per mask."""
    files = {}
    for row in shard.rows:
        files[picture_path(shard.config, shard.split, row["sample_id"])] = _png(row)
        if shard.config in ORIGINALS:
            files[picture_path(MASKS, shard.split, row["sample_id"])] = row["mask"]
    return files


def picture_path(config: str, split: str, sample_id: str) -> str:
    """Return the path of a picture in an image folder."""
    return f"data/{config}/{split}/{sample_id}.png"


def webdataset_files(shard: ExportShard) -> dict[str, bytes]:
    """Return a tar of ``.png``, ``.mask.png``, ``.original.png`` (of attacked images) and ``.json`` per sample.

    Members have no date and no owner, so that the same shard gives the same bytes.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for row in shard.rows:
            key = member_key(row["sample_id"])
            scalars = {name: row[name] for name in scalar_columns(shard.config)}
            members = {"png": _png(row), "mask.png": row["mask"]}
            if shard.config not in ORIGINALS:
                members["original.png"] = encode_image(shard.originals[row["sample_id"]], "png")
            members["json"] = json.dumps(scalars, sort_keys=True, allow_nan=False).encode()
            for kind, data in members.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {shard.record.path.rpartition(".")[0] + ".tar": stream.getvalue()}


def member_key(sample_id: str) -> str:
    """Turn a sample id into the key of its members in a tar, with ``~`` and ``+``, which no id contains.

    Readers take what follows the first dot as the kind of a member, and skip names that begin with ``__``.
    """
    key = sample_id.replace(".", "~")
    return f"+{key}" if key.startswith("__") else key


def samples_read(path: Path) -> int:
    """Count the samples that ``datasets`` finds in a tar."""
    import datasets

    rows = datasets.load_dataset("webdataset", data_files=[str(path)], split="train", streaming=True)
    return sum(1 for _ in rows.decode(False))


def _png(row: Mapping[str, Any]) -> bytes:
    data: bytes = row["image"]
    if data.startswith(b"\x89PNG"):
        return data
    try:
        return encode_image(decode_stored(data, (row["height"], row["width"])), "png")
    except BadSample as problem:
        raise AfbenchError(f"{row['sample_id']}: {problem}; see `afbench verify`") from None


def archive_manifest(
    manifest: ConfigManifest, contents: Mapping[str, str], records: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Rewrite the manifest of a config for an archive, whose shards are HDF5 files.

    Args:
        manifest: the benchmark's.
        contents: what the shards hold, by split.
        records: ``path``, ``bytes`` and ``sha256`` of the HDF5 file, by the path of the shard it was made of.
    """
    splits = {}
    for split, part in manifest.splits.items():
        shards = []
        for shard in part.shards:
            original_file = {"bytes": shard.bytes, "sha256": shard.sha256}
            is_hdf5 = format_of_path(shard.path) == "hdf5"
            parquet, hdf5 = (None, original_file) if is_hdf5 else (original_file, None)
            shards.append(replace(shard, **records[shard.path], parquet=parquet, hdf5=hdf5))
        archive = {"format": "hdf5", "content": contents[split]}
        splits[split] = replace(part, shards=shards, archive=archive)
    return json_bytes(replace(manifest, splits=splits).as_json())


def benchmark_manifest(
    manifest: ConfigManifest, shard_format: ShardFormat, records: Mapping[str, Mapping[str, Any]]
) -> bytes:
    """Rewrite the manifest of a config for a benchmark with shards of another format.

    Args:
        manifest: the benchmark's.
        shard_format: the new format.
        records: ``path``, ``bytes`` and ``sha256`` of the new shard, by the path of the one it was made of.
    """
    recorded_format = "hdf5" if shard_format == "hdf5" and manifest.config in ORIGINALS else ""
    splits = {
        split: replace(
            part,
            shards=[replace(shard, **records[shard.path]) for shard in part.shards],
            format=recorded_format,
        )
        for split, part in manifest.splits.items()
    }
    return json_bytes(replace(manifest, splits=splits).as_json())


def folder_tables(
    rows: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]], columns: Mapping[str, str]
) -> dict[str, bytes]:
    """Return ``metadata.parquet``, which ``imagefolder`` reads, and the same rows as ``table.csv`` for people.

    Not metadata.csv: pandas would read a sample called 007 as the number 7, and a column that begins with nulls as one
    that has nothing else.
    """
    types = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}
    records: list[dict[str, Any]] = []
    for (config, split), split_rows in rows.items():
        base = config if config in ORIGINALS else CLEAN
        for row in split_rows:
            sample_id = row["sample_id"]
            paths = {
                "file_name": picture_path(config, split, sample_id),
                "original_file_name": picture_path(base, split, sample_id),
                "mask_file_name": picture_path(MASKS, split, sample_id),
            }
            records.append({**paths, "config": config, **row})
    names = {
        **dict.fromkeys(("file_name", "original_file_name", "mask_file_name", "config"), "string"),
        **columns,
    }
    schema = pa.schema([(name, types[kind]) for name, kind in names.items()])
    # with a schema, for a column of nulls alone shows no type
    table = pa.Table.from_pylist(records, schema=schema)
    parquet, csv = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet, compression="none")
    pyarrow.csv.write_csv(table, csv)
    return {"metadata.parquet": parquet.getvalue(), "table.csv": csv.getvalue()}
