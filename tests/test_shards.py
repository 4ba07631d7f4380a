"""The layout of a Parquet shard: how many rows and bytes, what is checked, what is compressed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.core import AfbenchError, Source
from afbench.images import encode_image
from afbench.storage import parquet_shard
from afbench.storage.parquet_shard import group_rows
from afbench.storage.schema import ATTACKED_COLUMNS
from afbench.storage.shards import cut_ids, read_rows, write_shard
from afbench.workflows.generation.splits import Split

MEGAPIXEL = 1_000_000


def _rows(count: int, side: int = 16) -> list[dict[str, Any]]:
    noise = np.random.default_rng(0)
    values = {"string": "word", "int32": 3, "int64": 4, "float64": 0.5}
    rows = []
    for number in range(count):
        pixels = noise.integers(0, 256, (side, side, 3), dtype=np.uint8)
        pictures = {"image": encode_image(pixels), "mask": encode_image(pixels[..., 0])}
        row = {name: pictures.get(kind, values.get(kind)) for name, kind in ATTACKED_COLUMNS.items()}
        rows.append({**row, "sample_id": f"s{number:03d}"})
    return rows


def _write(folder: Path, rows: list[dict[str, Any]]) -> pq.FileMetaData:
    write_shard(folder, "x.parquet", "reference-fgsm-1", rows, ids_sha256="0", excluded=[])
    return pq.read_metadata(folder / "x.parquet")


@given(
    st.lists(st.integers(0, 200 * MEGAPIXEL), max_size=60),
    st.integers(1, 20),
)
def test_shards_hold_every_id_once_in_order_and_neither_too_many_nor_too_much(
    pixels: list[int], size: int
) -> None:
    known = {f"s{number}": one for number, one in enumerate(pixels)}
    found = cut_ids(list(known), size, known)
    assert [one for shard in found for one in shard] == list(known)
    for shard, after in zip(found, [*found[1:], []][: len(found)], strict=True):
        held = 4 * sum(known[one] for one in shard)
        assert 1 <= len(shard) <= size and (held <= 500_000_000 or len(shard) == 1)
        # and none is cut without need
        assert not after or len(shard) == size or held + 4 * known[after[0]] > 500_000_000


def test_huge_images_make_smaller_shards_whatever_size_is_asked_for() -> None:
    """64 images of 12 megapixels may take 1.5 GB: what is cut is the list, before anything is made."""
    ids = [f"s{number}" for number in range(64)]
    source = Source(
        name="x",
        ids=ids,
        read=lambda one: None,
        sha256="",
        terms="",
        pixels=dict.fromkeys(ids, 12 * MEGAPIXEL),
    )  # type: ignore[arg-type, return-value]
    found = Split(source, 64, "native").shards
    assert {len(shard) for shard in found} == {10, 4} and len(found) == 7
    small = Source(name="x", ids=ids, read=lambda one: None, sha256="", terms="")  # type: ignore[arg-type, return-value]
    assert [len(shard) for shard in Split(small, 40, "native").shards] == [40, 24]


@given(st.integers(0, 500))
def test_row_groups_hold_32_to_100_rows_unless_there_are_fewer(rows: int) -> None:
    found = group_rows([1000] * rows)
    assert sum(found) == rows and all(one <= 100 for one in found)
    assert rows < 32 or min(found) >= 32
    assert len(found) == -(-rows // 100)


@given(st.lists(st.integers(0, 150_000_000), max_size=120))
def test_row_groups_stay_below_100_mb_but_for_a_row_that_is_not(sizes: list[int]) -> None:
    first = 0
    for rows in group_rows(sizes):
        held = sum(sizes[first : first + rows])
        assert rows >= 1 and (held <= 100_000_000 or rows == 1)
        first += rows
    assert first == len(sizes)


def test_a_shard_is_cut_into_row_groups_by_rows_and_by_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(130)
    assert [_write(tmp_path, rows).row_group(number).num_rows for number in range(2)] == [65, 65]
    assert _write(tmp_path, rows[:64]).num_row_groups == 1
    row = len(rows[0]["image"]) + len(rows[0]["mask"])
    monkeypatch.setattr(parquet_shard, "MAX_GROUP_BYTES", 10 * row + 500)
    found = _write(tmp_path, rows[:40])
    counts = [found.row_group(number).num_rows for number in range(found.num_row_groups)]
    assert sum(counts) == 40 and 4 <= len(counts) <= 5
    assert [row["sample_id"] for row in read_rows(tmp_path, ["x.parquet"])] == [
        f"s{one:03d}" for one in range(40)
    ]


def test_image_bytes_are_not_compressed_again_and_dictionaries_are_for_strings(tmp_path: Path) -> None:
    group = _write(tmp_path, _rows(40)).row_group(0)
    for number in range(group.num_columns):
        column = group.column(number)
        assert column.compression == "UNCOMPRESSED"
        assert column.has_offset_index and column.has_column_index, column.path_in_schema
        if column.has_dictionary_page:
            assert (
                column.physical_type == "BYTE_ARRAY" and ATTACKED_COLUMNS[column.path_in_schema] == "string"
            )
    named = {
        group.column(n).path_in_schema
        for n in range(group.num_columns)
        if group.column(n).has_dictionary_page
    }
    assert named == {"localizer", "attack", "source", "kind", "group"}


def test_a_flipped_bit_of_any_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    rows = _rows(3)
    _write(tmp_path, rows)
    path = tmp_path / "x.parquet"
    data = path.read_bytes()
    for place in (data.index(rows[1]["image"]) + 40, data.index(rows[2]["mask"]) + 40, data.index(b"s001")):
        path.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        with pytest.raises(AfbenchError, match=r"(?i)crc|checksum"):
            list(read_rows(tmp_path, ["x.parquet"]))
        # what others have to ask for, `datasets` among them
        asked = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        with pytest.raises((OSError, pa.ArrowException), match=r"(?i)crc|checksum"):
            ds.dataset(path, format=ds.ParquetFileFormat(default_fragment_scan_options=asked)).to_table()
