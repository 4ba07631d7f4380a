"""The embedded demo: 120 fixed forgeries on free photographs the reference localizer never saw."""

from functools import lru_cache, partial
from importlib.resources import files

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import Sample, Source
from afbench.images import decode_stored

_SHA256_KEY = b"afbench_demo_sha256"


@lru_cache(maxsize=1)
def _table() -> pa.Table:
    with (files("afbench.sources") / "demo.parquet").open("rb") as stream:
        # Arrow's threads abort the process when it ends early beside torch
        return pq.ParquetFile(stream, pre_buffer=False).read(use_threads=False)


def open_demo(limit: int | None) -> Source:
    """Open the first ``limit`` demo forgeries in their fixed order; they are stored losslessly, so the same everywhere."""
    table = _table()
    ids = table["sample_id"].to_pylist()[:limit]
    return Source(
        name="demo",
        ids=ids,
        read=partial(_read, {name: row for row, name in enumerate(ids)}),
        sha256=table.schema.metadata[_SHA256_KEY].decode(),
        terms="made by afbench on photographs under CC0, public domain or CC-BY, see ATTRIBUTION.md",
        redistribution="allowed",
    )


def _read(rows: dict[str, int], sample_id: str) -> Sample:
    row = _table().slice(rows[sample_id], 1).to_pylist()[0]
    return Sample(
        sample_id,
        decode_stored(row["image"]),
        decode_stored(row["mask"]),
        group=row["group"],
        kind=row["kind"],
    )
