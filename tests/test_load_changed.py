"""What ``load_dataset`` notices of a changed folder, fresh, cached and streaming; and what it opens of a large one."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.dataset as ds
import pytest
from datasets.exceptions import DatasetGenerationError
from datasets.utils.info_utils import NonMatchingSplitsSizesError

from afbench.images import encode_image
from afbench.plans import expand_attack
from afbench.storage.card import dataset_card
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import read_configs
from afbench.storage.schema import columns_of
from afbench.storage.shards import shard_path, write_shard
from afbench.storage.verify import verify
from afbench.workflows.generation.finalise import finalise

CONFIG = "reference-fgsm-1"
SPLITS = ("columbia", "casia_v1", "casia_v2", "imd20", "misd")


def _write(folder: Path, config: str, split: str, number: int, count: int, rows: int = 2) -> dict[str, Any]:
    """One shard of random pixels; its record."""
    values = {"string": "word", "int32": 3, "int64": 4, "float64": 0.5}
    made = []
    for row in range(rows):
        pixels = np.random.default_rng([number, row]).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pictures = {"image": encode_image(pixels), "mask": encode_image(pixels[..., 0])}
        one = {name: pictures.get(kind, values.get(kind)) for name, kind in columns_of(config).items()}
        made.append({**one, "sample_id": f"s{number}-{row}"})
    path = shard_path(config, split, number, count)
    return write_shard(folder, path, config, made, ids_sha256="0", excluded=[]).as_json()


def _manifest(config: str, shards: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    extra = {"samples": 4, "terms": "free", "redistribution": "allowed"} if config == "clean" else {}
    (setting,) = expand_attack("fgsm", phi=["1/255"])
    localizer = {"name": config.partition("-")[0], "untrained": True}
    how = {"attack": "fgsm", "phi": str(setting.phi), "steps": 1, "localizer": localizer}
    splits = {split: {"shards": found, **extra} for split, found in shards.items()}
    return {"config": config, "config_hash": "0", "how": how, "splits": splits, "schema_version": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two configs of one split in two shards each."""
    out = tmp_path / "bench"
    for config in ("clean", CONFIG):
        manifest = _manifest(
            config, {"demo": [_write(out, config, "demo", number, 2) for number in range(2)]}
        )
        (out / "manifests").mkdir(exist_ok=True)
        (out / "manifests" / f"{config}.json").write_text(json.dumps(manifest))
    finalise(out)
    return out


@pytest.fixture
def load(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The sample ids that a user sees; ``cache`` names one, None streams."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def call(cache: str | None, **options: Any) -> list[str]:
        if cache is None:
            rows = datasets.load_dataset(str(folder), CONFIG, split="demo", streaming=True, **options)
            return [row["sample_id"] for row in rows]
        where = str(tmp_path / cache)
        return list(
            datasets.load_dataset(str(folder), CONFIG, split="demo", cache_dir=where, **options)["sample_id"]
        )

    return call


ALL = ["s0-0", "s0-1", "s1-0", "s1-1"]


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / "data" / CONFIG).iterdir())


def test_an_added_shard_is_an_error_and_never_among_what_was_cached(
    folder: Path, load: Callable[..., Any]
) -> None:
    assert load("used") == ALL
    shutil.copy(_shards(folder)[0], _shards(folder)[0].with_name("demo-00002-of-00003.parquet"))
    with pytest.raises(NonMatchingSplitsSizesError, match="num_examples=6"):
        load("fresh")
    assert load("used") == ALL  # what the card describes
    assert len(load(None)) == 6  # a stream is never counted; this is for verify
    assert [one.path for one in verify(folder, level="fast")] == [
        f"data/{CONFIG}/demo-00002-of-00003.parquet"
    ]


def test_a_removed_shard_is_an_error_and_never_missing_from_what_was_cached(
    folder: Path, load: Callable[..., Any]
) -> None:
    assert load("used") == ALL
    _shards(folder)[0].unlink()
    with pytest.raises(NonMatchingSplitsSizesError, match="num_examples=2"):
        load("fresh")
    assert load("used") == ALL
    assert load(None) == ALL[2:]
    assert [one.message for one in verify(folder, level="fast")] == ["is missing"]


def test_a_config_that_is_gone_is_an_error_and_an_empty_stream(
    folder: Path, load: Callable[..., Any]
) -> None:
    assert load("used") == ALL
    shutil.rmtree(folder / "data" / CONFIG)
    with pytest.raises(NonMatchingSplitsSizesError):
        load("fresh")
    assert load("used") == ALL and load(None) == []
    assert [one.message for one in verify(folder, level="fast")] == ["is missing"] * 2


def test_a_truncated_shard_is_an_error_fresh_and_streaming(folder: Path, load: Callable[..., Any]) -> None:
    assert load("used") == ALL
    shard = _shards(folder)[1]
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(DatasetGenerationError):
        load("fresh")
    with pytest.raises(Exception, match=r"(?i)parquet|magic|footer"):
        load(None)
    assert load("used") == ALL


def test_changed_bytes_are_noticed_by_verify_and_by_whoever_asks_for_page_checksums(
    folder: Path, load: Callable[..., Any]
) -> None:
    shard = _shards(folder)[1]
    data = bytearray(shard.read_bytes())
    place = data.index(b"s1-0")
    data[place : place + 4] = b"s9-0"
    shard.write_bytes(data)
    assert "s9-0" in load("fresh") and "s9-0" in load(None)  # as docs/storage.md says: only these two notice
    asked = {"fragment_scan_options": ds.ParquetFragmentScanOptions(page_checksum_verification=True)}
    with pytest.raises(DatasetGenerationError):
        load("fresh", **asked)
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        load(None, **asked)
    assert [one.message for one in verify(folder)] == ["has another sha256: its bytes changed"]


def test_a_shard_that_is_published_anew_is_served_anew(folder: Path, load: Callable[..., Any]) -> None:
    assert load("used") == ALL
    manifest = json.loads((folder / "manifests" / f"{CONFIG}.json").read_text())
    (split,) = manifest["splits"].values()
    split["shards"].append(_write(folder, CONFIG, "demo", 2, 3))
    (folder / "manifests" / f"{CONFIG}.json").write_text(json.dumps(manifest))
    (folder / "README.md").write_text(dataset_card(read_configs(folder)))
    assert load("used") == load("fresh") == load(None) == [*ALL, "s2-0", "s2-1"]


WATCHED = """
import json, sys
from pathlib import Path
folder, cache = sys.argv[1:]
import datasets, datasets.packaged_modules.parquet.parquet
opened = []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(folder) and Path(arguments[0]).is_file():
        opened.append(str(Path(arguments[0]).relative_to(folder)))
sys.addaudithook(hook)
builder = datasets.load_dataset_builder(folder, "l7-fgsm-3", cache_dir=cache)
built = sorted({*opened})
rows = datasets.load_dataset(folder, "l7-fgsm-3", cache_dir=cache)
print(json.dumps([built, sorted({*opened}), {name: one.num_rows for name, one in rows.items()}]))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The paper's whole grid by its names: 80 configs of 5 splits, a shard each."""
    out = tmp_path_factory.mktemp("large") / "bench"
    configs = {}
    for config in (
        "clean",
        *(f"l{localizer}-fgsm-{setting}" for localizer in range(8) for setting in range(10)),
    ):
        first = config in ("clean", "l0-fgsm-0")
        shards = {}
        for split in SPLITS:
            path = shard_path(config, split, 0, 1)
            if first:
                shards[split] = [_write(out, config, split, 0, 1, rows=1)]
            else:
                (out / path).parent.mkdir(exist_ok=True)
                shutil.copy(out / shard_path("l0-fgsm-0", split, 0, 1), out / path)
                shards[split] = [{**configs["l0-fgsm-0"]["splits"][split]["shards"][0], "path": path}]
        configs[config] = _manifest(config, shards)
    (out / "README.md").write_text(
        dataset_card({name: ConfigManifest.from_json(one) for name, one in configs.items()})
    )
    return out


def test_one_of_80_configs_opens_its_own_files_and_no_other(large: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, large, tmp_path / "cache"],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    built, opened, rows = json.loads(done.stdout)
    assert built == ["README.md"]
    assert opened == ["README.md", *sorted(shard_path("l7-fgsm-3", split, 0, 1) for split in SPLITS)]
    assert rows == dict.fromkeys(SPLITS, 1)
    assert len((large / "README.md").read_bytes()) < 500_000
