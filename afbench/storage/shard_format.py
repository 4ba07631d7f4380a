"""What the path of a shard says: its config and split, and by its suffix its format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from afbench.core import ShardFormat

SUFFIXES: Mapping[ShardFormat, str] = {"parquet": ".parquet", "hdf5": ".h5"}
LABELS: Mapping[ShardFormat, str] = {"parquet": "Parquet", "hdf5": "HDF5"}

WITHOUT_PICTURES = (
    "datasets.load_dataset gives the rows of HDF5 shards without image and mask; afbench.load gives both, and "
    "`afbench export FOLDER --to parquet --out OTHER` makes a copy that load_dataset reads whole"
)
"""What a user of an HDF5 benchmark has to know."""


def format_of_path(path: str) -> ShardFormat:
    """Return the format of a shard by its path."""
    return "hdf5" if path.endswith(SUFFIXES["hdf5"]) else "parquet"


def config_of_path(path: str) -> str:
    """Return the config of a shard by its path."""
    return Path(path).parent.name


def split_of_path(path: str) -> str:
    """Return the split of a shard by its path; a growth stage follows the split's name after a dot."""
    return re.split(r"[.-]", Path(path).name)[0]


def path_in_format(path: str, shard_format: ShardFormat) -> str:
    """Return the path that a shard has in another format."""
    return path.removesuffix(SUFFIXES[format_of_path(path)]) + SUFFIXES[shard_format]
