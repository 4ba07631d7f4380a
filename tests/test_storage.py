"""Files are there whole or not at all; shards, schema and card say the same thing."""

import errno
import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from afbench.core import AfbenchError, PartialError, UsageError
from afbench.files import commit_bytes, commit_if_changed, json_bytes, replacing, sha256_file, sweep
from afbench.images import encode_image
from afbench.storage.card import dataset_card
from afbench.storage.config_manifest import ConfigManifest, ShardRecord, SplitManifest
from afbench.storage.locks import locked
from afbench.storage.manifests import LOG, TOP, WORK, ids_sha256, open_benchmark, read_json, safe_path
from afbench.storage.run_folder import check_folder, commit_header
from afbench.storage.schema import ATTACKED_COLUMNS, CLEAN_COLUMNS, arrow_schema, columns_of, yaml_features
from afbench.storage.shards import read_rows, shard_path, write_shard
from afbench.storage.summary import summarise

_DEFAULTS = {"string": "word", "int32": 3, "int64": 4, "float64": 0.5}


def _row(columns: dict[str, str], number: int = 0) -> dict[str, Any]:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    pictures = {"image": encode_image(pixels), "mask": encode_image(pixels[..., 0])}
    return {name: pictures.get(kind, _DEFAULTS.get(kind)) for name, kind in columns.items()}


def test_a_committed_file_holds_its_bytes_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.bin"
    assert commit_bytes(path, b"one") == hashlib.sha256(b"one").hexdigest() == sha256_file(path)
    commit_bytes(path, b"two")
    assert path.read_bytes() == b"two" and list(path.parent.iterdir()) == [path]


@pytest.mark.reliability("R3")
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "file.bin"
    commit_bytes(path, b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(AfbenchError, match=r"No space left.*run again to resume") as raised:
        commit_bytes(path, b"new")
    assert raised.value.exit_code == 1
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("no tensor"), OSError(errno.EIO, "broken")]
)
def test_a_block_that_fails_leaves_the_old_file_alone(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_two_files_take_their_names_once_both_are_whole_the_inner_one_first(tmp_path: Path) -> None:
    record, weights = tmp_path / "record.json", tmp_path / "weights.pt"
    with replacing(record) as new_record:
        with replacing(weights) as new_weights:
            new_weights.write_bytes(b"weights")
            new_record.write_bytes(b"record")
            assert not weights.exists()
        assert weights.read_bytes() == b"weights" and not record.exists()
    assert record.read_bytes() == b"record"


def test_two_threads_that_write_one_file_leave_one_of_both_whole(tmp_path: Path) -> None:
    path, contents = tmp_path / "file.bin", [bytes([number]) * 100_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        hashes = list(pool.map(lambda content: commit_bytes(path, content, durable=False), contents * 5))
    assert hashes == [hashlib.sha256(content).hexdigest() for content in contents * 5]
    assert path.read_bytes() in contents and list(tmp_path.iterdir()) == [path]


# They say who is at work, or grow line by line, or write what ``replacing`` yields.
_WRITES_ITSELF = {"files.py", "storage/locks.py", "storage/run_folder.py", "localizers/register.py"}


def test_every_other_file_of_the_library_is_written_by_files_py() -> None:
    package = Path(__file__).resolve().parent.parent / "afbench"
    pattern = re.compile(r"\.write_(bytes|text)\(|os\.(replace|rename|fsync)\(|\.open\([\"'][wxa]b?\+?[\"']")
    found = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if pattern.search(path.read_text())
    }
    assert found == _WRITES_ITSELF


@pytest.mark.reliability("R3")
def test_a_write_that_reads_back_differently_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afbench.files.sha256_file", lambda path: "another")
    with pytest.raises(AfbenchError, match="read back differ"):
        commit_bytes(tmp_path / "file.bin", b"new")
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_its_bytes_already_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    commit_bytes(path, b"same")
    os.utime(path, ns=(1, 1))
    commit_if_changed(path, b"same")
    assert path.stat().st_mtime_ns == 1
    commit_if_changed(path, b"more")
    assert path.read_bytes() == b"more"


def test_a_sweep_removes_temporary_files_at_any_depth_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "README.md", tmp_path / "data" / "x-cw-1p5" / "demo-00000-of-00001.parquet"]
    orphans = [path.with_name(path.name + ".tmp.host.12") for path in kept]
    for path in (*kept, *orphans):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    assert sweep(tmp_path) == 2
    assert [path.exists() for path in (*kept, *orphans)] == [True, True, False, False]


def test_json_has_one_form(tmp_path: Path) -> None:
    assert json_bytes({"b": 1, "a": "é"}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"a": float("nan")})


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_json_file_is_one_line_for_the_user(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(AfbenchError, match="broken"):
        read_json(path)


@pytest.mark.reliability("R6")
@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../b", "a//b", "", "a\\b", "a b", "data/..", "x\n"]
)
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(AfbenchError, match="leaves its folder"):
        safe_path(path)


def test_ids_are_hashed_in_their_order() -> None:
    assert ids_sha256(["a", "b"]) != ids_sha256(["b", "a"])


@pytest.mark.reliability("R4")
def test_a_folder_that_cannot_be_a_benchmark_is_refused_and_left_alone(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("mine")
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    for folder, said in ((file, "is a file"), (file / "below", "below a file"), (other, "no benchmark")):
        with pytest.raises(UsageError, match=said):
            check_folder(folder)
    check_folder(tmp_path / "new" / "deep")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "letter.txt", "other"]


@pytest.mark.reliability("R10")
def test_a_folder_that_is_held_is_refused_naming_its_owner(tmp_path: Path) -> None:
    with locked(tmp_path):
        refused = pytest.raises(PartialError, match=f"process {os.getpid()}")
        with refused as raised, locked(tmp_path, wait=0.1):
            pass
        assert raised.value.exit_code == 3
        assert (tmp_path / LOG / "owner").exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOG / "owner").exists()


def test_an_unfinished_folder_is_no_benchmark_and_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{TOP} is missing$"):
        open_benchmark(tmp_path)
    commit_header(tmp_path, "config", {})
    assert (tmp_path / WORK).is_dir()
    with pytest.raises(UsageError, match="run `afbench generate` again"):
        open_benchmark(tmp_path)


@pytest.mark.parametrize("config", ["clean", "reference-fgsm-1"])
def test_a_shard_gives_back_its_rows_and_carries_its_features(tmp_path: Path, config: str) -> None:
    columns = columns_of(config)
    rows = [{**_row(columns, number), "sample_id": f"s{number}"} for number in range(3)]
    path = shard_path(config, "demo", 1, 4)
    record = write_shard(tmp_path, path, config, rows, ids_sha256="0", excluded=[])
    assert path == f"data/{config}/demo-00001-of-00004.parquet"
    assert (record.rows, record.first_id, record.last_id) == (3, "s0", "s2")
    assert (record.bytes, record.sha256) == ((tmp_path / path).stat().st_size, sha256_file(tmp_path / path))
    assert list(read_rows(tmp_path, [path])) == rows
    assert [row["sample_id"] for row in read_rows(tmp_path, [path], ["sample_id"])] == ["s0", "s1", "s2"]
    stored = pq.read_schema(tmp_path / path)
    assert stored.equals(arrow_schema(columns), check_metadata=False)
    from_shard = datasets.Features.from_arrow_schema(stored)
    from_card = datasets.Features._from_yaml_list(yaml_features(columns))
    assert from_shard == from_card == datasets.Features(dict(from_card)) and list(from_shard) == list(columns)
    assert from_shard["image"] == datasets.Image() and from_shard["mask"] == datasets.Image(mode="L")


def test_undefined_figures_and_empty_shards_are_stored(tmp_path: Path) -> None:
    row = {**_row(ATTACKED_COLUMNS), "psnr": float("inf"), "f1_adv": float("nan"), "phi": None}
    write_shard(tmp_path, "data/a.parquet", "x", [row], ids_sha256="0", excluded=[])
    (back,) = read_rows(tmp_path, ["data/a.parquet"])
    assert back["psnr"] is None and back["f1_adv"] is None and back["phi"] is None
    record = write_shard(tmp_path, "data/b.parquet", "clean", [], ids_sha256="0", excluded=[])
    assert (record.rows, record.first_id) == (0, None)
    assert list(read_rows(tmp_path, ["data/b.parquet"])) == []
    assert pq.read_schema(tmp_path / "data/b.parquet").names == list(CLEAN_COLUMNS)


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
def test_a_damaged_or_missing_shard_is_one_line_for_the_user(tmp_path: Path, damage: bytes | None) -> None:
    if damage is not None:
        (tmp_path / "a.parquet").write_bytes(damage)
    with pytest.raises(AfbenchError, match=r"shard 'a\.parquet' cannot be read"):
        list(read_rows(tmp_path, ["a.parquet"]))


def test_a_summary_averages_what_is_defined_and_counts_the_rest() -> None:
    row = {
        "psnr": 40.0,
        "ssim": 0.5,
        "linf": 2,
        "zero_gradient_pixels": 1,
        "tp": 1,
        "fp": 0,
        "fn": 1,
        "tn": 2,
    }
    found = summarise(
        [
            {**row, "f1_clean": 0.8, "f1_adv": 0.2},
            {**row, "f1_clean": 0.4, "f1_adv": 0.4, "linf": 0, "psnr": None},
            {**row, "f1_clean": None, "f1_adv": None},
        ]
    )
    told = {key: found[key] for key in ("n", "n_undefined", "unchanged", "linf", "zero_gradient_pixels")}
    assert told == {"n": 3, "n_undefined": 1, "unchanged": 1, "linf": 2, "zero_gradient_pixels": 3}
    figures = [found[key] for key in ("f1_clean", "f1_adv", "rp", "f1_all_ones", "psnr", "ssim")]
    assert figures == pytest.approx([0.6, 0.3, 50.0, 2 * 2 / (2 + 4), 40.0, 0.5])
    empty = summarise([])
    assert empty["n"] == empty["linf"] == 0 and empty["rp"] is None


def test_a_card_names_every_config_and_group_with_files_and_counts() -> None:
    def manifest(config: str, attack: str) -> ConfigManifest:
        path = f"data/{config}/demo-00000-of-00001.parquet"
        failed = (
            [{"sample_id": "s", "reason": "nonfinite_gradient", "detail": ""}] if attack == "fgsm" else []
        )
        shard = ShardRecord(
            path=path,
            rows=2,
            bytes=7,
            sha256="0" * 64,
            ids_sha256="",
            first_id="a",
            last_id="b",
            excluded=failed,
        )
        how = {"attack": attack, "localizer": {"name": "reference"}}
        part = SplitManifest(shards=[shard], samples=2, terms="free")
        return ConfigManifest(config, {"demo": part}, how)

    names = {"clean": "", "reference-cw-50": "cw", "reference-fgsm-1": "fgsm", "reference-fgsm-2": "fgsm"}
    card = dataset_card({name: manifest(name, attack) for name, attack in names.items()})
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    told = yaml.safe_load(front)
    groups = [*names, "reference-cw", "reference-fgsm", "all"]
    assert [one["config_name"] for one in told["configs"]] == groups
    assert [one["config_name"] for one in told["dataset_info"]] == groups
    assert all(re.fullmatch(r"[a-z0-9_.-]+", name) for name in groups)
    assert [one["config_name"] for one in told["configs"] if one.get("default")] == ["reference-cw-50"]
    rows = {one["config_name"]: one["splits"][0]["num_examples"] for one in told["dataset_info"]}
    assert rows == {**dict.fromkeys(names, 2), "reference-cw": 2, "reference-fgsm": 4, "all": 6}
    assert "<!-- afbench" not in body and '"reference-cw-50", split="demo"' in body
    assert "- nonfinite_gradient: 1\n" in body  # in two configs, but one sample
