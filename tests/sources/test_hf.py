"""Folders of `datasets` and of Parquet files as sources: cells are files, and no table is trusted."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from afbench.core import BadSample, UsageError
from afbench.sources import SourceOptions, open_source, table_cells
from afbench.sources.index import build_index
from afbench.sources.layouts.hf import parse_root
from afbench.storage.manifests import open_benchmark

COLUMNS = "?image=picture&mask=gt"
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def image(number):
    return np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def mask(number):
    """White in the first rows, one more for every number."""
    pixels = np.zeros((24, 32), np.uint8)
    pixels[: 1 + number] = 255
    return pixels


def cell(pixels, path=None):
    return {"bytes": png(pixels), "path": path}


def rows(count=4, authentic=2, label=None):
    table = [
        {"picture": cell(image(number)), "gt": cell(mask(number)), "kind": 1 if label is None else label[1]}
        for number in range(count)
    ]
    return table + [
        {"picture": cell(image(100 + number)), "gt": None, "kind": 0 if label is None else label[0]}
        for number in range(authentic)
    ]


def write_parquet(path, table, metadata=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.string() if isinstance(table[0].get("kind"), str) else pa.int64()
    schema = pa.schema([("picture", PICTURE), ("gt", PICTURE), ("kind", kind)], metadata=metadata)
    pq.write_table(pa.Table.from_pylist(table, schema=schema), path, **options)
    return path.parent


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """What `Dataset.save_to_disk` writes, with a cached table beside it that is no part of it."""
    import datasets

    root = tmp_path_factory.mktemp("saved") / "set"
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "gt": datasets.Image(),
            "kind": datasets.ClassLabel(names=["fake", "real"]),
        }
    )
    table = [row | {"kind": 1 - row["kind"]} for row in rows()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.utils.tqdm, "disable", True, raising=False)
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(table, features=features).save_to_disk(root)
    (root / "cache-0123.arrow").write_bytes(next(root.glob("data-*.arrow")).read_bytes())
    return root


def included(root, **options):
    index = build_index("hf", root, SourceOptions(**options), cache=False)
    return {sample.id: sample for sample in index.samples if sample.included}


@pytest.mark.parametrize("form", ["parquet", "saved"])
def test_rows_are_samples_with_the_pixels_of_their_cells(form, saved, tmp_path):
    root = saved if form == "saved" else write_parquet(tmp_path / "p/train.parquet", rows(), row_group_size=3)
    stem = "data-00000-of-00001" if form == "saved" else "train"
    source = open_source("hf", f"{root}{COLUMNS}", options=SourceOptions(authentic=True))
    assert source.ids == [f"{stem}-{row:06d}" for row in range(4)]
    assert source.authentic == [f"{stem}-{row:06d}" for row in (4, 5)]
    # in any order, as shards are made again
    for number in (3, 0, 2, 1):
        sample = source.read(source.ids[number])
        np.testing.assert_array_equal(sample.image, image(number))
        np.testing.assert_array_equal(sample.mask, mask(number))
    authentic = source.read(source.authentic[1])
    np.testing.assert_array_equal(authentic.image, image(101))
    assert not authentic.mask.any() and not source.files


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_table_that_was_written_again_gives_its_new_cells_in_the_same_process(tmp_path, name):
    root = tmp_path / "p"
    root.mkdir()

    def write(first):
        table = pa.table({"picture": [png(image(first))], "gt": [png(mask(first))]})
        new = tmp_path / "new"
        if name.endswith("parquet"):
            pq.write_table(table, new)
        else:
            with pa.ipc.new_stream(str(new), table.schema) as writer:
                writer.write_table(table)
        new.replace(root / name)  # as a careful writer does

    for first in (0, 7):
        write(first)
        source = open_source("hf", f"{root}{COLUMNS}", options=SourceOptions())
        sample = source.read(source.ids[0])
        np.testing.assert_array_equal(sample.image, image(first))
        np.testing.assert_array_equal(sample.mask, mask(first))


def test_names_of_labels_decide_before_their_numbers(saved, tmp_path):
    assert len(included(f"{saved}{COLUMNS}&label=kind")) == 4  # 0 is fake there
    root = write_parquet(tmp_path / "p/a.parquet", rows(label=("Pristine", "Tampered")))
    found = included(f"{root}{COLUMNS}&label=kind", authentic=True)
    assert [sample.label for sample in found.values()] == ["forged"] * 4 + ["authentic"] * 2
    root = write_parquet(tmp_path / "q/a.parquet", rows(label=("cat", "dog")))
    with pytest.raises(UsageError, match="has the label 'dog', which says neither forged nor authentic"):
        included(f"{root}{COLUMNS}&label=kind")
    root = write_parquet(tmp_path / "r/a.parquet", rows(label=(-1, 1)))
    with pytest.raises(UsageError, match="has the label '-1', which says neither forged nor authentic"):
        included(f"{root}{COLUMNS}&label=kind")


def test_a_label_that_says_forged_without_a_mask_is_excluded_and_no_mask_without_labels_is_authentic(
    tmp_path,
):
    table = rows()
    table[4]["kind"], table[5]["kind"] = 1, None
    root = write_parquet(tmp_path / "p/a.parquet", table)
    index = build_index("hf", f"{root}{COLUMNS}&label=kind", SourceOptions(authentic=True), cache=False)
    assert {sample.id: (sample.reason, sample.detail) for sample in index.samples if not sample.included} == {
        "a-000004": ("missing_mask", "its label says forged, and it has no mask"),
        "a-000005": ("missing_mask", "it has neither a label nor a mask"),
    }
    assert [sample.label for sample in included(f"{root}{COLUMNS}", authentic=True).values()].count(
        "authentic"
    ) == 2


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "?image=picture",
            "has no column 'mask', expected masks as bytes; its columns: picture (image), gt (image), kind (int64)",
        ),
        ("", "has no column 'image', expected images as bytes; its columns: picture (image)"),
        ("?image=picture&mask=kind", "has int64 in column 'kind', expected masks as bytes"),
        (f"{COLUMNS}&label=class", "has no column 'class'; its columns: picture (image)"),
        (f"{COLUMNS}&colour=red", "must name columns as image=COLUMN&mask=COLUMN&label=COLUMN"),
        ("?image=picture&mask=", "must name columns as"),
        ("?image=a&image=b", "must name columns as"),
    ],
)
def test_a_wrong_column_is_one_line_that_names_those_of_the_folder(afbench, tmp_path, query, message):
    root = write_parquet(tmp_path / "p/a.parquet", rows())
    ran = afbench("index", "hf", "--root", f"{root}{query}")
    assert ran.code == 2 and message in ran.err and ran.err.count("\n") == 1


def test_a_root_may_have_a_question_mark_of_its_own():
    assert parse_root("what?/set") == ("what?/set", "image", "mask", None)
    assert parse_root("what?/set?mask=a%26b") == ("what?/set", "image", "a&b", None)


def test_plain_bytes_are_pictures_too_and_paths_alone_are_not(tmp_path):
    schema = pa.schema([("picture", pa.binary()), ("gt", pa.large_binary())])
    table = [{"picture": png(image(number)), "gt": png(mask(number))} for number in range(2)]
    (tmp_path / "a").mkdir()
    pq.write_table(pa.Table.from_pylist(table, schema=schema), tmp_path / "a/a.parquet")
    assert len(included(f"{tmp_path}/a{COLUMNS}")) == 2
    outside = [{"picture": {"bytes": None, "path": "/etc/passwd"}, "gt": cell(mask(0)), "kind": 1}]
    root = write_parquet(tmp_path / "b/b.parquet", outside + rows(1))
    index = build_index("hf", f"{root}{COLUMNS}", SourceOptions(), cache=False)
    (excluded,) = [sample for sample in index.samples if not sample.included]
    assert excluded.reason == "unreadable" and "'/etc/passwd' are not in the table" in excluded.detail


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "text", "two kinds", "state"])
def test_damaged_folders_are_one_line(afbench, saved, tmp_path, damage):
    root = write_parquet(tmp_path / "p/a.parquet", rows())
    data = (root / "a.parquet").read_bytes()
    if damage == "truncated":
        (root / "a.parquet").write_bytes(data[: len(data) // 2])
    elif damage == "overwritten":
        (root / "a.parquet").write_bytes(data[:-200] + os.urandom(192) + data[-8:])
    elif damage == "text":
        (root / "a.parquet").write_text("hello")
    elif damage == "two kinds":
        (root / "b.arrow").write_bytes(next(saved.glob("data-*.arrow")).read_bytes())
    else:
        (root / "a.parquet").unlink()
        (root / "data.arrow").write_bytes(next(saved.glob("data-*.arrow")).read_bytes())
        (root / "state.json").write_text(json.dumps({"_data_files": 7}))
    ran = afbench("index", "hf", "--root", f"{root}{COLUMNS}")
    assert ran.code == 2 and ran.err.startswith("afbench: error: source hf: ") and ran.err.count("\n") == 1


def test_a_table_whose_pages_are_damaged_costs_its_samples_and_no_traceback(saved, tmp_path):
    (tmp_path / "set").mkdir()
    data = bytearray(next(saved.glob("data-*.arrow")).read_bytes())
    state = json.loads((saved / "state.json").read_text())
    start = len(data) // 3
    data[start : start + 600] = b"\xff" * 600
    (tmp_path / "set" / state["_data_files"][0]["filename"]).write_bytes(data)
    (tmp_path / "set/state.json").write_text(json.dumps(state))
    try:
        found = included(f"{tmp_path / 'set'}{COLUMNS}")
    except UsageError as error:
        assert "cannot be read" in str(error)
    else:
        assert len(found) < 4


def test_a_reading_process_that_dies_is_replaced(tmp_path):
    root = write_parquet(tmp_path / "p/a.parquet", rows())
    source = open_source("hf", f"{root}{COLUMNS}")
    path, first = root / "a.parquet", table_cells.TableCell("a.parquet", "picture", 0)
    table_cells._children[os.getpid()].process.kill()
    with pytest.raises(BadSample, match="takes too much memory"):
        table_cells.read_cell(path, first, 10**6)
    assert table_cells.read_cell(path, first, 10**6) == png(image(0))
    with pytest.raises(BadSample, match=r"too_large: .* at most 10 are read"):
        table_cells.read_cell(path, first, 10)
    np.testing.assert_array_equal(source.read("a-000000").image, image(0))


def test_a_benchmark_is_made_of_a_table_and_remembers_how_it_was_read(afbench, tmp_path):
    root = write_parquet(tmp_path / "p/a.parquet", rows())
    source = f"forgeries=hf:{root}{COLUMNS}"
    attack = ("--localizer", "reference", "--checkpoint", "random", "--attack", "noise", "--phi", "1/255")
    ran = afbench("generate", *attack, "--source", source, "--authentic", "--out", "out")
    assert ran.code == 0, ran.err
    configs = open_benchmark(tmp_path / "out").configs
    assert configs["clean"].splits["forgeries"].samples == 4
    assert configs["authentic"].splits["forgeries"].samples == 2
    again = afbench("generate", *attack, "--source", source, "--authentic", "--out", "out")
    assert again.code == 0 and "0 shards written" in again.out
