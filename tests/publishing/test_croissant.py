"""Croissant: the public validator has nothing against it, and its records are the rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afbench.images import pixel_sha256
from afbench.storage.croissant import croissant_bytes, write_croissant
from afbench.storage.manifests import read_configs, shard_paths
from afbench.storage.shards import read_rows

mlc = pytest.importorskip("mlcroissant", reason="of the extra `croissant`")


@pytest.fixture
def dataset(folder: Path) -> Any:
    write_croissant(folder)
    return mlc.Dataset(jsonld=folder / "croissant.json")


def test_the_validator_finds_no_error_and_misses_nothing_but_a_date(dataset: Any) -> None:
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # a date would make the same benchmark another file every day
    assert ["datePublished" in warning for warning in issues.warnings] == [True]


@pytest.mark.parametrize("config", ["clean", "reference-fgsm-2"])
def test_records_are_the_rows_of_a_config(dataset: Any, folder: Path, config: str) -> None:
    rows = list(read_rows(folder, shard_paths(read_configs(folder)[config])))
    records = list(dataset.records(config))
    assert len(records) == len(rows) == 3
    for record, row in zip(records, rows, strict=True):
        found = {key.removeprefix(f"{config}/"): value for key, value in record.items()}
        assert set(found) == set(row)
        for name in ("image", "mask"):
            assert pixel_sha256(np.asarray(found.pop(name))) == row[f"{name}_sha256"]
        for name, value in found.items():
            assert (value.decode() if isinstance(value, bytes) else value) == row[name], name


def test_every_shard_is_listed_with_its_hash_and_checked_by_it(dataset: Any, folder: Path) -> None:
    listing = json.loads((folder / "MANIFEST.json").read_text())["files"]
    told = {one["@id"]: one for one in json.loads(croissant_bytes(folder))["distribution"]}
    for path in (path for path in listing if path.endswith(".parquet")):
        assert told[path]["sha256"] == listing[path]["sha256"]
        assert told[path]["contentSize"] == f"{listing[path]['bytes']} B"
    assert dataset.metadata.version.startswith("1.0.0+")


def test_what_is_no_parquet_is_listed_by_files(folder: Path) -> None:
    hashes = {"bytes": 1, "sha256": "0" * 64}
    paths = (
        "data/x/demo-00000-of-00001.h5",
        "data/x/demo/a.png",
        "data/x/demo/b.png",
        "README.md",
        "table.csv",
    )
    (folder / "MANIFEST.json").write_text(json.dumps({"files": dict.fromkeys(paths, hashes)}))
    told = json.loads(croissant_bytes(folder))
    assert told["recordSet"] == []
    assert [(one["@type"], one["encodingFormat"]) for one in told["distribution"]] == [
        ("cr:FileObject", "application/x-hdf5"),
        ("cr:FileObject", "text/csv"),
        ("cr:FileSet", "image/png"),
    ]
    assert told["distribution"][2]["includes"] == "data/x/demo/*.png"
