"""The embedded demo: 120 fixed forgeries on free photographs the reference localizer never saw, and 120 authentic pictures."""

from collections.abc import Mapping
from functools import lru_cache, partial
from importlib.resources import files

import pyarrow as pa
import pyarrow.parquet as pq

from afbench.core import Sample, Source
from afbench.images import decode_stored

_SHA256_KEY = b"afbench_demo_sha256"


FORGED_FILE, AUTHENTIC_FILE = "demo.parquet", "demo_authentic.parquet"


@lru_cache(maxsize=2)
def _table(name: str) -> pa.Table:
    with (files("afbench.sources") / name).open("rb") as stream:
        # Arrow's threads abort the process when it ends early beside torch
        return pq.ParquetFile(stream, pre_buffer=False).read(use_threads=False)


def open_demo(limit: int | None, *, authentic: bool = False) -> Source:
    """Open the first ``limit`` demo forgeries in their fixed order; they are stored losslessly, so the same everywhere.

    ``authentic`` adds as many pictures of the same scenes that nobody forged.
    """
    ids = _sample_ids(FORGED_FILE, limit)
    authentic_ids = _sample_ids(AUTHENTIC_FILE, limit) if authentic else []
    rows = {
        name: (file, row)
        for file, names in ((FORGED_FILE, ids), (AUTHENTIC_FILE, authentic_ids))
        for row, name in enumerate(names)
    }
    return Source(
        name="demo",
        ids=ids,
        read=partial(_read, rows),
        sha256=_sha256(FORGED_FILE),
        authentic=authentic_ids,
        authentic_sha256=_sha256(AUTHENTIC_FILE) if authentic else "",
        terms="made by afbench on photographs under CC0, public domain or CC-BY, see ATTRIBUTION.md",
        redistribution="allowed",
    )


def _sample_ids(file: str, limit: int | None) -> list[str]:
    return [str(name) for name in _table(file)["sample_id"].to_pylist()[:limit]]


def _sha256(file: str) -> str:
    return str(_table(file).schema.metadata[_SHA256_KEY].decode())


def _read(rows: Mapping[str, tuple[str, int]], sample_id: str) -> Sample:
    file, number = rows[sample_id]
    row = _table(file).slice(number, 1).to_pylist()[0]
    return Sample(
        sample_id,
        decode_stored(row["image"]),
        decode_stored(row["mask"]),
        group=row["group"],
        kind=row["kind"],
    )
