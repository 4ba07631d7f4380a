"""Hugging Face ``datasets`` opens a benchmark: by config, by group, streaming, and without its card."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets.utils.info_utils import NonMatchingSplitsSizesError
from PIL import Image

from afbench.images import pixel_sha256
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.card import dataset_card
from afbench.storage.manifests import count_rows, open_benchmark
from afbench.storage.shards import read_rows, write_shard
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

CONFIGS = ("clean", "reference-cw-2", "reference-cw-3", "reference-fgsm-1", "reference-fgsm-2")
ROWS = {
    **dict.fromkeys(CONFIGS, (3, 2)),
    "reference-cw": (6, 4),
    "reference-fgsm": (6, 4),
    "all": (12, 8),
}
"""Rows in split folder and in split synthetic."""


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


def _make(base: Path, sources: str, *, side: int = 32) -> Path:
    root, out = base / "photographs", base / "out"
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side + 16 * number, 3), dtype=np.uint8)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    settings = (*expand_attack("fgsm", phi=["1/255", "2/255"]), *expand_attack("cw", steps=[2, 3]))
    for name in sources.split():
        spec = SourceSpec(name, str(root) if name == "folder" else None)
        limit = None if name == "folder" else 2
        plan = RunPlan("test", (Block(("reference",), (spec,), settings),), limit=limit)
        generate(plan, out, Options(checkpoint="random", shard_size=2))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _make(tmp_path_factory.mktemp("made"), "folder synthetic")


def _card(out: Path) -> dict[str, Any]:
    return yaml.safe_load((out / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_every_config_and_group_of_the_card_loads_with_its_rows(made: Path, cache: str) -> None:
    assert set(datasets.get_dataset_config_names(str(made))) == set(ROWS)
    for config, rows in ROWS.items():
        loaded = datasets.load_dataset(str(made), config, cache_dir=cache)
        assert {name: split.num_rows for name, split in loaded.items()} == {
            "folder": rows[0],
            "synthetic": rows[1],
        }
    assert re.fullmatch(r"\w+", "".join(loaded))
    assert all(re.fullmatch(r"[a-z0-9_.-]+", config) for config in ROWS)


@pytest.mark.parametrize("config", ["clean", "reference-cw-3", "reference-fgsm-1"])
def test_decoded_rows_are_those_of_the_manifest(made: Path, cache: str, config: str) -> None:
    manifest = open_benchmark(made).configs[config]
    loaded = datasets.load_dataset(str(made), config, cache_dir=cache)
    assert sum(split.num_rows for split in loaded.values()) == count_rows(manifest)
    for name, split in loaded.items():
        shards = manifest.splits[name].shards
        assert split[0]["sample_id"] == shards[0].first_id
        assert split[-1]["sample_id"] == shards[-1].last_id
        for row in split:
            image, mask = np.asarray(row["image"]), np.asarray(row["mask"])
            assert row["image"].mode == "RGB" and row["mask"].mode == "L"
            assert image.shape[:2] == mask.shape == (row["height"], row["width"])
            assert set(np.unique(mask)) <= {0, 255}
            assert pixel_sha256(image) == row["image_sha256"]
            assert pixel_sha256(mask) == row["mask_sha256"]
            assert row["source"] == name


def test_streaming_gives_the_same_rows(made: Path, cache: str) -> None:
    stored = datasets.load_dataset(str(made), "reference-cw-3", split="folder", cache_dir=cache)
    streamed = datasets.load_dataset(str(made), "reference-cw-3", split="folder", streaming=True)
    pairs = list(zip(stored, streamed, strict=True))
    assert len(pairs) == 3
    for one, two in pairs:
        assert np.array_equal(one.pop("image"), two.pop("image"))
        assert np.array_equal(one.pop("mask"), two.pop("mask"))
        assert one == two


def test_a_group_holds_its_members_one_after_the_other(made: Path, cache: str) -> None:
    rows = datasets.load_dataset(str(made), "reference-cw", split="folder", cache_dir=cache)
    assert rows["steps"] == [2, 2, 2, 3, 3, 3] and set(rows["attack"]) == {"cw"}
    everything = datasets.load_dataset(str(made), "all", split="folder", cache_dir=cache)
    assert set(everything["attack"]) == {"cw", "fgsm"} and "clean" not in everything["attack"]


def test_without_a_name_the_default_config_opens(made: Path, cache: str) -> None:
    loaded = datasets.load_dataset(str(made), split="synthetic", cache_dir=cache)
    assert loaded.config_name == next(iter(open_benchmark(made).attacked)) != "clean"


def test_shards_decode_without_the_card(made: Path, cache: str) -> None:
    files = str(made / "data" / "reference-fgsm-2" / "folder-*.parquet")
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    assert loaded.num_rows == 3
    for row in loaded:
        assert pixel_sha256(np.asarray(row["image"])) == row["image_sha256"]
        assert row["mask"].mode == "L" and pixel_sha256(np.asarray(row["mask"])) == row["mask_sha256"]


def test_the_card_states_the_features_the_shards_have(made: Path) -> None:
    info = {one["config_name"]: one for one in _card(made)["dataset_info"]}
    for config in CONFIGS:
        stated = datasets.Features._from_yaml_list(info[config]["features"])
        for path in (made / "data" / config).glob("*.parquet"):
            schema = pq.read_schema(path)
            assert stated == datasets.Features.from_arrow_schema(schema)
            told = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
            assert datasets.Features.from_dict(told) == stated
    sizes = {one["name"]: one["num_bytes"] for one in info["clean"]["splits"]}
    on_disk = sum(path.stat().st_size for path in (made / "data" / "clean").glob("folder-*"))
    assert sizes["folder"] == on_disk and info["clean"]["download_size"] == sum(sizes.values())


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return _make(tmp_path, "folder", side=16)


def _load(out: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(out), "reference-fgsm-1", split="folder", cache_dir=str(cache))


def test_a_removed_shard_and_added_rows_are_noticed(small: Path, tmp_path: Path) -> None:
    first, second = sorted((small / "data" / "reference-fgsm-1").iterdir())
    second.unlink()
    with pytest.raises(NonMatchingSplitsSizesError, match="num_examples=2"):
        _load(small, tmp_path / "one")
    second.write_bytes(first.read_bytes())
    with pytest.raises(NonMatchingSplitsSizesError, match="num_examples=4"):
        _load(small, tmp_path / "two")


def test_after_caching_files_that_do_not_fit_the_card_are_never_served(small: Path, tmp_path: Path) -> None:
    """A cached copy is found by the card: it stays what the card describes, whatever happens to the files."""
    published = _load(small, tmp_path / "cache")["image_sha256"]
    sorted((small / "data" / "reference-fgsm-1").iterdir())[1].unlink()
    assert _load(small, tmp_path / "cache")["image_sha256"] == published


def test_after_caching_a_benchmark_made_anew_is_served_anew(small: Path, tmp_path: Path) -> None:
    """Also when every shard has the size it had before: only the hashes in the card differ."""
    assert _load(small, tmp_path / "cache")["group"] == ["photo0", "photo1", "photo2"]
    path = "data/reference-fgsm-1/folder-00000-of-00002.parquet"
    rows = [{**row, "group": row["group"][::-1]} for row in read_rows(small, [path])]
    configs = open_benchmark(small).configs
    (part,) = configs["reference-fgsm-1"].splits.values()
    record = write_shard(small, path, "reference-fgsm-1", rows, ids_sha256="", excluded=[])
    assert record.bytes == part.shards[0].bytes
    splits = {"folder": replace(part, shards=[record, *part.shards[1:]])}
    configs = {**configs, "reference-fgsm-1": replace(configs["reference-fgsm-1"], splits=splits)}
    (small / "README.md").write_text(dataset_card(configs), encoding="utf-8")
    assert _load(small, tmp_path / "cache")["group"] == ["0otohp", "1otohp", "photo2"]


def test_a_shard_without_a_usable_sample_does_not_keep_the_others_from_loading(tmp_path: Path) -> None:
    images = tmp_path / "photographs" / "images"
    images.mkdir(parents=True)
    for name in ("aaa.png", "aab.png"):  # all of the first shard
        (images / name).write_bytes(b"no picture")
    out = _make(tmp_path, "folder", side=16)
    for one in ("clean", "reference-fgsm-1", "all"):
        loaded = datasets.load_dataset(str(out), one, split="folder", cache_dir=str(tmp_path / "cache"))
        assert set(loaded["sample_id"]) == {"photo0", "photo1", "photo2"}
        streamed = datasets.load_dataset(str(out), one, split="folder", streaming=True)
        assert sum(1 for _ in streamed) == loaded.num_rows
