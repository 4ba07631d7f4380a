"""HDF5 shards: lossless, the same bytes every time, readable without afbench, and nobody else's."""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from afbench.core import AfbenchError
from afbench.images import decode_stored, encode_image
from afbench.storage.archive import pack_shard
from afbench.storage.hdf5 import hdf5_file_bytes, scalar_columns
from afbench.storage.hdf5_read import open_shard, reading_shard
from afbench.storage.hdf5_rows import read_hdf5_rows
from afbench.storage.manifests import CLEAN, open_benchmark, shard_paths
from afbench.storage.residual import add_residual, encode_residual, residual
from afbench.storage.shards import read_rows

CONFIG = "reference-fgsm-3"


def clean_row(sample_id: str, image: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    height, width = image.shape[:2]
    texts = {name: "é" for name, kind in scalar_columns(CLEAN).items() if kind == "string"}
    pictures = {"image": encode_image(image), "mask": encode_image(mask)}
    return {**texts, **pictures, "sample_id": sample_id, "source": "demo", "height": height, "width": width}


@pytest.fixture
def rows(picture):
    masks = [np.zeros((20, 30), np.uint8), np.full((31, 17), 255, np.uint8)]
    images = [picture(20, 30, seed=1), picture(31, 17, seed=2)]
    return [
        clean_row(f"s{n}", image, mask) for n, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]


@pytest.fixture
def shard(tmp_path, rows) -> Path:
    path = tmp_path / "data/clean/demo-00000-of-00001.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(pack_shard(CLEAN, "demo", rows, {}, content="images"))
    return path


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_any_change_comes_back_from_its_residual(seed, height, width, small):
    draw = np.random.default_rng(seed)
    original = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
    other = draw.integers(0, 256, original.shape, dtype=np.uint8)
    attacked = np.clip(original.astype(int) + other % 7 - 3, 0, 255).astype(np.uint8) if small else other
    stored = encode_residual(residual(attacked, original))
    assert stored[8:12] == b"WEBP"
    assert np.array_equal(add_residual(decode_stored(stored), original), attacked)


def test_a_residual_is_128_where_nothing_changed_and_wraps_at_the_ends():
    original = np.array([[[0, 255, 7]]], np.uint8)
    assert residual(original, original).tolist() == [[[128, 128, 128]]]
    assert residual(np.array([[[255, 0, 9]]], np.uint8), original).tolist() == [[[127, 129, 130]]]
    for wrong in (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 1), np.uint8)):
        with pytest.raises(ValueError, match="residual"):
            residual(wrong, original)
        with pytest.raises(ValueError, match="residual"):
            add_residual(wrong, original)


def test_a_side_that_webp_cannot_hold_becomes_png(picture):
    long = picture(2, 16_384)
    stored = encode_residual(long)
    assert stored.startswith(b"\x89PNG") and np.array_equal(decode_stored(stored), long)


def test_every_column_comes_back_null_as_null(made):
    paths = shard_paths(open_benchmark(made.folder).configs[CONFIG])
    names = list(scalar_columns(CONFIG))
    rows = [dict(row) for row in read_rows(made.folder, paths, names)]
    rows[0] |= {"psnr": None, "zero_gradient_pixels": None, "phi": None, "kind": "", "group": "Übung"}
    data = hdf5_file_bytes(
        CONFIG, "folder", rows, content="residuals", image_format="webp", pictures=[b"x"] * 7
    )
    path = made.folder.parent / "columns.h5"
    path.write_bytes(data)
    with reading_shard(path) as shard:
        assert [shard.scalars(number) for number in range(len(shard))] == rows
        assert shard.encoded(6) == b"x"
        with pytest.raises(AfbenchError, match="holds no masks"):
            shard.encoded(0, "mask_data")


def test_the_same_rows_give_the_same_bytes(rows):
    first = pack_shard(CLEAN, "demo", rows, {}, content="images")
    assert pack_shard(CLEAN, "demo", rows, {}, content="images") == first
    rows[1]["kind"] = "other"
    assert pack_shard(CLEAN, "demo", rows, {}, content="images") != first


def test_a_shard_of_no_rows_is_one(tmp_path):
    for content in ("images", "none"):
        path = tmp_path / f"{content}.h5"
        path.write_bytes(pack_shard(CLEAN, "demo", [], {}, content=content))
        with reading_shard(path) as shard:
            assert len(shard) == 0 and shard.content == content


def test_plain_h5py_needs_no_filter_and_finds_one_dimensional_arrays(shard):
    with h5py.File(shard) as file:
        assert {dataset.ndim for dataset in file.values()} == {1}
        assert {dataset.chunks for dataset in file.values()} == {None}
        assert {dataset.dtype.kind for dataset in file.values()} <= set("uifS")
        assert file["sample_id"][:].tolist() == [b"s0", b"s1"]
        assert file.attrs["format"] == b"afbench-hdf5"


def test_rows_read_as_from_parquet(tmp_path, shard, rows):
    path = str(shard.relative_to(tmp_path))
    assert list(read_hdf5_rows(tmp_path, path)) == rows
    (first, _) = read_hdf5_rows(tmp_path, path, ("sample_id", "mask"))
    assert first == {"sample_id": "s0", "mask": rows[0]["mask"]}


def test_a_residual_without_its_original_is_an_error(rows):
    with pytest.raises(AfbenchError, match="s0 of x, demo: no residual can be made"):
        pack_shard("x", "demo", rows, {}, content="residuals")


Change = Callable[[Any], None]


def replace(name: str, **options: Any) -> Change:
    def change(file: Any) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def link(name: str, target: Any) -> Change:
    def change(file: Any) -> None:
        del file[name]
        file[name] = target

    return change


def attribute(name: str, value: Any) -> Change:
    def change(file: Any) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def external(file: Any) -> None:
    del file["data"]
    file.create_dataset("data", (100,), "u1", external=[("/etc/passwd", 0, 100)])


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((100,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "data", (100,))
    del file["data"]
    file.create_virtual_dataset("data", layout)


def late(file: Any) -> None:
    """A dataset of a terabyte that no byte was ever written of."""
    del file["data"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    space = h5py.h5s.create_simple((2**40,))
    h5py.h5d.create(file.id, b"data", h5py.h5t.STD_U8LE, space, made)


HOSTILE: dict[str, tuple[Change, str]] = {
    "an external link": (link("data", h5py.ExternalLink("/etc/passwd", "/x")), "'data' is an external link"),
    "a soft link out": (link("data", h5py.SoftLink("/etc/passwd")), "is a soft link"),
    "a soft link within": (link("length", h5py.SoftLink("/offset")), "'length' is a soft link"),
    "external storage": (external, "data lies in another file"),
    "a virtual dataset": (virtual, "data is virtual"),
    "claimed terabytes": (late, "data claims 1099511627776 bytes that the file does not have"),
    "chunks": (replace("data", data=np.zeros(100, "u1"), chunks=(10,)), "data is chunked"),
    "a compressed bomb": (
        replace("data", data=np.zeros(1 << 20, "u1"), compression="gzip"),
        "data is chunked",
    ),
    "strings of any length": (
        replace("kind", data=["a", "b"], dtype=h5py.string_dtype()),
        "kind is of an object or variable-length type",
    ),
    "lists of any length": (
        replace("offset", shape=(2,), dtype=h5py.vlen_dtype("i8")),
        "offset is of an object or variable-length type",
    ),
    "references": (
        replace("offset", shape=(2,), dtype=h5py.ref_dtype),
        "offset is of an object or variable-length type",
    ),
    "a compound": (
        replace("offset", data=np.zeros(2, [("a", "i8"), ("b", "i8")])),
        "offset is of an object or variable-length type",
    ),
    "another width": (replace("offset", data=np.zeros(2, "<i4")), "offset is of type int32, expected <i8"),
    "another order of bytes": (replace("offset", data=np.zeros(2, ">i8")), "offset is of type >i8"),
    "two dimensions": (replace("offset", data=np.zeros((2, 1), "<i8")), "offset has 2 dimensions"),
    "no dimension": (replace("offset", data=np.int64(0)), "offset has 0 dimensions"),
    "a group": (lambda file: (file.pop("offset"), file.create_group("offset")), "offset is no dataset"),
    "a missing column": (lambda file: file.pop("group"), "unexpected or missing: 'group'"),
    "another dataset": (
        lambda file: file.create_dataset("extra", data=[1]),
        "unexpected or missing: 'extra'",
    ),
    "a thousand datasets": (
        lambda file: [file.create_dataset(f"x{number}", data=[1]) for number in range(1000)],
        "entries at its root",
    ),
    "columns of other lengths": (replace("offset", data=np.zeros(3, "<i8")), "columns of 2 and 3 rows"),
    "a range beyond the end": (
        replace("offset", data=np.array([0, 2**62], "<i8")),
        "a picture lies outside of data",
    ),
    "a range before the beginning": (
        replace("offset", data=np.array([-1, 0], "<i8")),
        "a picture lies outside of data",
    ),
    "a range that overflows": (
        replace("length", data=np.array([2**63 - 1, 5], "<i8")),
        "a picture lies outside of data",
    ),
    "a length below nothing": (
        replace("mask_length", data=np.array([-5, 5], "<i8")),
        "a picture lies outside of mask_data",
    ),
    "an image of a thousand million pixels": (
        replace("height", data=np.array([2**31 - 1, 1], "<i4")),
        "a row claims a height or width",
    ),
    "an image of no pixel": (
        replace("width", data=np.array([0, 1], "<i4")),
        "a row claims a height or width",
    ),
    "another format": (attribute("format", np.bytes_(b"keras")), "format keras 1, expected afbench-hdf5 1"),
    "no format": (attribute("format", None), "attribute format is missing"),
    "a later version": (attribute("version", np.int64(3)), "format afbench-hdf5 3"),
    "an attribute of any length": (
        attribute("config", "clean"),
        "attribute config is of an object or variable-length type",
    ),
    "a list as attribute": (
        attribute("config", np.array([b"clean"] * 3)),
        "attribute config is no single value",
    ),
    "unknown content": (attribute("content", np.bytes_(b"pickle")), "content pickle of webp is unknown"),
    "content that does not go with the datasets": (
        attribute("content", np.bytes_(b"none")),
        "unexpected or missing: 'data'",
    ),
    "columns of another config": (
        attribute("config", np.bytes_(b"reference-fgsm-1")),
        "unexpected or missing",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_ours_is_refused_by_name(shard, name):
    change, told = HOSTILE[name]
    with h5py.File(shard, "r+") as file:
        change(file)
    with pytest.raises(AfbenchError, match=told) as refused:
        open_shard(shard)
    assert str(shard) in str(refused.value) and "\n" not in str(refused.value)


def test_a_foreign_or_missing_file_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(AfbenchError, match="is missing"):
        open_shard(path)
    for data in (b"", b"PK\3\4", b"\x89HDF\r\n\x1a\n" + bytes(200)):
        path.write_bytes(data)
        with pytest.raises(AfbenchError, match="is refused: no readable HDF5"):
            open_shard(path)
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(AfbenchError, match="attribute format is missing"):
        open_shard(path)


def test_a_truncated_file_is_refused_at_every_length(shard):
    data = shard.read_bytes()
    for length in (*range(0, len(data), 97), len(data) - 1):
        shard.write_bytes(data[:length])
        with pytest.raises(AfbenchError):
            open_shard(shard)


def test_a_picture_of_another_size_or_kind_is_refused(tmp_path, rows, picture):
    rows[0]["image"] = encode_image(picture(200, 300))
    rows[1]["image"] = rows[1]["mask"]
    path = tmp_path / "odd.h5"
    path.write_bytes(pack_shard(CLEAN, "demo", rows, {}, content="images"))
    with reading_shard(path) as shard:
        with pytest.raises(AfbenchError, match="s0: data is damaged"):
            shard.picture(0)
        with pytest.raises(AfbenchError, match="another number of colours"):
            shard.picture(1)


def test_an_empty_float_is_nan_and_an_empty_integer_the_smallest(made, tmp_path):
    paths = shard_paths(open_benchmark(made.folder).configs[CONFIG])
    row = next(read_rows(made.folder, paths, list(scalar_columns(CONFIG))))
    row |= {"psnr": None, "zero_gradient_pixels": None}
    path = tmp_path / "null.h5"
    path.write_bytes(
        hdf5_file_bytes(CONFIG, "folder", [row], content="residuals", image_format="webp", pictures=[b"x"])
    )
    with h5py.File(path) as file:
        assert math.isnan(file["psnr"][0]) and file["zero_gradient_pixels"][0] == -(2**63)


@pytest.mark.parametrize("flips", [300, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_flipped_byte_never_breaks_more_than_its_file(tmp_path, flips):
    row = clean_row("s0", np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8))
    whole = pack_shard(CLEAN, "demo", [row], {}, content="images")
    draw = np.random.default_rng(0)
    refused = 0
    path = tmp_path / "flip.h5"
    for _ in range(flips):
        broken = bytearray(whole)
        broken[draw.integers(len(whole))] ^= int(draw.integers(1, 256))
        path.write_bytes(broken)
        try:
            with reading_shard(path) as shard:
                for number in range(len(shard)):
                    shard.scalars(number)
                    shard.picture(number)
                    shard.picture(number, "mask_data")
        except AfbenchError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > flips / 10


def test_pillow_reads_what_is_stored(shard, rows):
    with h5py.File(shard) as file:
        first = bytes(file["data"][: file["length"][0]])
    assert first == rows[0]["image"]
    with Image.open(io.BytesIO(first)) as stored:
        assert stored.format == "WEBP" and stored.size == (30, 20)
