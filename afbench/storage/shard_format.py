"""The formats of shards; the suffix of a shard's path says which one it has."""

from __future__ import annotations

from collections.abc import Mapping

from afbench.core import ShardFormat

SUFFIXES: Mapping[ShardFormat, str] = {"parquet": ".parquet", "hdf5": ".h5"}
LABELS: Mapping[ShardFormat, str] = {"parquet": "Parquet", "hdf5": "HDF5"}


def format_of_path(path: str) -> ShardFormat:
    """Return the format of a shard by its path."""
    return "hdf5" if path.endswith(SUFFIXES["hdf5"]) else "parquet"


def path_in_format(path: str, shard_format: ShardFormat) -> str:
    """Return the path that a shard has in another format."""
    return path.removesuffix(SUFFIXES[format_of_path(path)]) + SUFFIXES[shard_format]
