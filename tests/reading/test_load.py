"""``afbench.load``: pairs in any order, from either storage, in workers of any kind."""

import pickle
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import afbench as library
from afbench.core import AfbenchError, UsageError
from afbench.images import decode_stored
from afbench.storage.manifests import CLEAN, open_benchmark, shard_paths
from afbench.storage.shards import read_rows, write_shard
from afbench.workflows.publishing.export import export


@pytest.fixture(scope="module")
def archive(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("archive") / "whole"
    export(made.folder, out, "hdf5")
    return out


@pytest.fixture(scope="module")
def residuals(made, tmp_path_factory):
    out = tmp_path_factory.mktemp("archive") / "residuals"
    export(made.folder, out, "hdf5", with_originals=False)
    return out


@pytest.fixture(params=["parquet", "archive"])
def stored(request, made):
    return made.folder if request.param == "parquet" else request.getfixturevalue("archive")


def levels(tensor: torch.Tensor) -> np.ndarray:
    return (tensor * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def rows_of(folder, config, split=None) -> list[dict[str, Any]]:
    return list(read_rows(folder, shard_paths(open_benchmark(folder).configs[config], split)))


def test_an_item_is_what_the_shards_hold(made, stored):
    dataset = library.load(stored, "reference-fgsm-3")
    originals = {row["sample_id"]: row for row in rows_of(made.folder, CLEAN)}
    attacked = rows_of(made.folder, "reference-fgsm-3")
    assert len(dataset) == len(attacked) == 7
    for item, row in zip(dataset, attacked, strict=True):
        original = originals[row["sample_id"]]
        assert np.array_equal(levels(item["adversarial"]), decode_stored(row["image"]))
        assert np.array_equal(levels(item["original"]), decode_stored(original["image"]))
        assert np.array_equal(item["mask"][0].numpy() * 255, decode_stored(original["mask"]))
        assert {name: item[name] for name in ("sample_id", "group", "source")} == {
            name: row[name] for name in ("sample_id", "group", "source")
        }
        assert item["config"] == "reference-fgsm-3"
        for name, channels in (("original", 3), ("adversarial", 3), ("mask", 1)):
            assert item[name].dtype == torch.float32
            assert item[name].shape == (channels, row["height"], row["width"])
    assert not torch.equal(item["original"], item["adversarial"])


def test_what_is_known_without_decoding_is_in_the_order_of_the_items(stored):
    dataset = library.load(stored, "reference-cw-2")
    items = list(dataset)
    assert dataset.groups == [item["group"] for item in items]
    assert dataset.sizes == [tuple(item["mask"].shape[1:]) for item in items]
    assert dataset.sample_ids == [item["sample_id"] for item in items]
    assert dataset.sources == [item["source"] for item in items]
    assert set(dataset.sources) == {"folder", "synthetic"} and len(set(dataset.sizes)) == 4


def test_groups_and_sizes_come_without_decoding_a_pixel(stored, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("decoded")

    for module in ("afbench.reading.parquet_store", "afbench.reading.hdf5_store"):
        monkeypatch.setattr(f"{module}.decode_stored", refuse)
    dataset = library.load(stored)
    assert len(dataset.groups) == len(dataset.sizes) == 7
    with pytest.raises(AssertionError, match="decoded"):
        dataset[0]


def test_items_come_in_any_order_and_twice(stored):
    dataset = library.load(stored, "reference-fgsm-1")
    forward = [dataset[index] for index in range(len(dataset))]
    for index in (6, 0, 3, 3, -1, 5, -7):
        for name in ("original", "adversarial", "mask"):
            assert torch.equal(dataset[index][name], forward[index][name])
    for index in (7, -8):
        with pytest.raises(IndexError):
            dataset[index]


def test_the_originals_may_be_changed_without_changing_the_adversarial_ones(stored):
    item = library.load(stored, CLEAN)[0]
    assert torch.equal(item["original"], item["adversarial"]) and item["config"] == CLEAN
    item["original"].zero_()
    assert item["adversarial"].any()


def test_names_choose_configs_groups_and_splits(stored):
    assert {item["config"] for item in library.load(stored)} == {"reference-fgsm-1"}
    assert set(library.load(stored, "reference-fgsm").configs) == {"reference-fgsm-1", "reference-fgsm-3"}
    assert len(library.load(stored, "all")) == 21
    only = library.load(stored, "all", split="synthetic")
    assert len(only) == 6 and set(only.sources) == {"synthetic"}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("kind", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_of_any_kind_read_what_one_process_reads(stored, kind, workers):
    dataset = library.load(stored, "all", split="folder")
    alone = list(dataset)  # files are open here when workers are forked
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=kind)
    for mine, theirs in zip(alone, loader, strict=True):
        assert mine["sample_id"] == theirs["sample_id"] and mine["config"] == theirs["config"]
        for name in ("original", "adversarial", "mask"):
            assert torch.equal(mine[name], theirs[name])


def crop_of_four(item):
    """Crop the pair and its mask alike, as a user's own transform does."""
    crops = {name: item[name][:, 2:6, 3:7] for name in ("original", "adversarial", "mask")}
    return crops | {"label": f"{item['config']}/{item['sample_id']}"}


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_transform_gets_each_pair_at_once_and_lets_a_loader_stack_other_sizes(stored):
    pairs = library.load(stored, "reference-fgsm-3")
    cropped = library.load(stored, "reference-fgsm-3", transform=crop_of_four)
    assert len(set(pairs.sizes)) > 1 and cropped.sizes == pairs.sizes
    loader = DataLoader(cropped, batch_size=4, num_workers=1, multiprocessing_context="fork")
    batches = list(loader)
    assert [label for batch in batches for label in batch["label"]] == [
        f"reference-fgsm-3/{name}" for name in pairs.sample_ids
    ]
    for name in ("original", "adversarial", "mask"):
        expected = torch.stack([item[name][:, 2:6, 3:7] for item in pairs])
        assert torch.equal(torch.cat([batch[name] for batch in batches]), expected)


def test_a_transform_that_cannot_be_called_is_refused(made):
    with pytest.raises(UsageError, match="transform must be a function or None; found str 'flip'"):
        library.load(made.folder, transform="flip")


def test_an_image_is_read_alone_once_its_row_group_was_seen(made, monkeypatch):
    dataset = library.load(made.folder, "reference-cw-2")
    before = [dataset[index]["adversarial"] for index in range(len(dataset))]

    def refuse(*arguments, **options):
        raise AssertionError("a whole row group was read again")

    monkeypatch.setattr("afbench.reading.parquet_store.pq.ParquetFile", refuse)
    assert all(torch.equal(dataset[index]["adversarial"], before[index]) for index in (5, 0, 3))


def test_a_copy_carries_no_open_file_and_no_pixel(stored):
    dataset = library.load(stored, "all")
    before = len(pickle.dumps(dataset))
    list(dataset)
    assert len(pickle.dumps(dataset)) == before
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[3]["adversarial"], dataset[3]["adversarial"])


def test_residuals_take_their_originals_from_a_benchmark_or_from_copies(made, residuals):
    expected = list(library.load(made.folder, "reference-cw-2"))
    for originals in (made.folder, {"folder": str(made.root), "synthetic": None}):
        found = list(library.load(residuals, "reference-cw-2", originals=originals))
        for mine, theirs in zip(expected, found, strict=True):
            assert all(torch.equal(mine[name], theirs[name]) for name in ("original", "adversarial", "mask"))


def test_a_copy_with_other_pixels_is_refused_when_it_is_read(made, residuals, tmp_path):
    root = shutil.copytree(made.root, tmp_path / "mine")
    # turned: the very file of photo.4 would be one image with two masks
    turned = Image.open(root / "images" / "photo.4.png").transpose(Image.Transpose.ROTATE_180)
    turned.save(root / "images" / "photo.1.png")
    dataset = library.load(residuals, "reference-cw-2", split="folder", originals={"folder": str(root)})
    with pytest.raises(AfbenchError, match=r"photo\.1 of your copy of folder: other_original"):
        dataset[dataset.sample_ids.index("photo.1")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("reference-fgsm-9",), "config 'reference-fgsm-9' is not in .*its configs: clean, reference-fgsm-1"),
        (("clean", "casia"), "split 'casia' is not in config 'clean' .*its splits: folder, synthetic"),
    ],
)
def test_an_unknown_name_is_refused_with_the_known_ones(stored, arguments, told):
    config, split = (*arguments, None)[:2]
    with pytest.raises(UsageError, match=told):
        library.load(stored, config, split=split)


def test_what_is_no_benchmark_is_refused(made, residuals, tmp_path):
    with pytest.raises(UsageError, match=r"is no benchmark: MANIFEST\.json is missing"):
        library.load(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        library.load(made.folder / "MANIFEST.json")
    with pytest.raises(UsageError, match=r"holds no originals of folder, synthetic.*afbench restore"):
        library.load(residuals)
    with pytest.raises(UsageError, match="holds none of source 'folder'"):
        library.load(residuals, originals=residuals)


def test_a_benchmark_without_its_originals_is_refused(made, tmp_path):
    broken = shutil.copytree(made.folder, tmp_path / "broken")
    (broken / "manifests/clean.json").unlink()
    with pytest.raises(AfbenchError, match=r"manifests/clean\.json is missing"):
        library.load(broken)


def test_a_damaged_or_swapped_shard_is_named(made, tmp_path):
    broken = shutil.copytree(made.folder, tmp_path / "broken")
    first, second = sorted((broken / "data/reference-cw-2").glob("folder-*.parquet"))[:2]
    first.unlink()
    with pytest.raises(AfbenchError, match=first.name):
        library.load(broken, "reference-cw-2")
    shutil.copy(broken / "data/reference-cw-2" / "synthetic-00000-of-00001.parquet", first)
    with pytest.raises(AfbenchError, match=r"folder-00000-of-00003.* it is damaged, or another config's"):
        library.load(broken, "reference-cw-2", split="folder")
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(AfbenchError, match="afbench verify"):
        library.load(broken, "reference-cw-2")


def test_shards_packed_in_another_way_read_the_same(made, tmp_path):
    other = shutil.copytree(made.folder, tmp_path / "other")
    for path in (other / "data").rglob("*.parquet"):
        pq.write_table(pq.read_table(path), path, compression="zstd", row_group_size=1)
    mine, theirs = (library.load(folder, "reference-cw-2") for folder in (made.folder, other))
    for index in (4, 0, 4, 6):
        for name in ("original", "adversarial", "mask"):
            assert torch.equal(mine[index][name], theirs[index][name])


def test_an_original_of_other_pixels_is_refused_at_once(made, tmp_path):
    other = shutil.copytree(made.folder, tmp_path / "other")
    files = sorted((other / "data/clean").glob("folder-*.parquet"))
    rows = list(read_rows(other, [files[0].relative_to(other).as_posix()]))
    assert len(rows) == 2
    rows[0]["image_sha256"] = "0" * 64
    path = files[0].relative_to(other).as_posix()
    write_shard(other, path, CLEAN, rows, ids_sha256="", excluded=[])
    with pytest.raises(AfbenchError, match="was made from another original or mask"):
        library.load(other, "reference-cw-2")
