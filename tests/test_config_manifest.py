"""A manifest that is read and written again is the same, whatever its version said and left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from afbench.core import AfbenchError
from afbench.storage.commit import json_bytes
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import read_configs

HASHES = st.sampled_from(["0" * 64, "f" * 64])
COUNTS = st.integers(0, 10**9)
NAMES = st.sampled_from(["a", "b-1", "x.y_z"])
SOFTWARE = st.none() | st.fixed_dictionaries({"afbench": NAMES})
SHARDS = st.fixed_dictionaries(
    {
        "path": NAMES,
        "rows": COUNTS,
        "bytes": COUNTS,
        "sha256": HASHES,
        "ids_sha256": HASHES,
        "first_id": st.none() | NAMES,
        "last_id": st.none() | NAMES,
        "excluded": st.lists(
            st.fixed_dictionaries({"sample_id": NAMES, "reason": NAMES, "detail": NAMES}), max_size=2
        ),
    },
    optional={
        "together": st.lists(NAMES, max_size=2),
        "image_format": st.sampled_from(["webp", "png"]),
        "determinism": st.sampled_from(["L0", "L1", "L2"]),
        "files": st.dictionaries(NAMES, NAMES, min_size=1, max_size=2),
        "software": st.fixed_dictionaries({"afbench": NAMES}),
        "parquet": st.fixed_dictionaries({"bytes": COUNTS, "sha256": HASHES}),
        "of a later version": COUNTS,
    },
)
ORIGINALS = st.fixed_dictionaries(
    {"shards": st.lists(SHARDS, max_size=2), "samples": st.integers(1, 99), "shard_size": st.integers(1, 99)},
    optional={
        "attack_at": st.sampled_from(["native", "model"]),
        "ids_sha256": HASHES,
        "source_sha256": HASHES,
        "terms": st.text(max_size=5),
        "redistribution": NAMES,
        "layout": NAMES,
        "read": st.fixed_dictionaries({"mask_threshold": COUNTS}),
        "grown_from": st.lists(
            st.fixed_dictionaries({"samples": COUNTS, "shard_size": COUNTS}), min_size=1, max_size=2
        ),
        "archive": st.fixed_dictionaries({"format": NAMES, "content": NAMES}),
        "of a later version": COUNTS,
    },
)
ATTACKED = st.fixed_dictionaries(
    {
        "shards": st.lists(SHARDS, max_size=2),
        "software": SOFTWARE,
        "summary": st.fixed_dictionaries({"n": COUNTS, "f1_adv": st.none() | st.floats(0, 1)}),
    }
)
MANIFESTS = st.fixed_dictionaries(
    {
        "schema_version": st.just(1),
        "config": NAMES,
        "splits": st.dictionaries(NAMES, ORIGINALS | ATTACKED, max_size=2),
    },
    optional={
        "how": st.fixed_dictionaries({"attack": NAMES}),
        "config_hash": HASHES,
        "of a later version": COUNTS,
    },
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(MANIFESTS)
def test_a_manifest_that_is_read_and_written_again_has_the_same_bytes(stored: dict[str, Any]) -> None:
    manifest = ConfigManifest.from_json(json.loads(json_bytes(stored)))
    assert json_bytes(manifest.as_json()) == json_bytes(stored)
    assert ConfigManifest.from_json(manifest.as_json()) == manifest


def test_a_finished_benchmark_is_read_and_written_again_as_it_is(made: Any) -> None:
    for name, manifest in read_configs(made.folder).items():
        stored = (made.folder / "manifests" / f"{name}.json").read_bytes()
        assert json_bytes(manifest.as_json()) == stored
        assert not manifest.unknown_keys and not any(shard.unknown_keys for shard in manifest.shards)
        assert not any(part.unknown_keys for part in manifest.splits.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [("rows", "2"), ("rows", True), ("bytes", 1.5), ("sha256", None), ("path", ["a"]), ("excluded", {})],
)
def test_a_shard_of_another_type_is_one_line(made: Any, tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "manifests").mkdir()
    stored = json.loads((made.folder / "manifests" / "clean.json").read_text(encoding="utf-8"))
    next(iter(stored["splits"].values()))["shards"][0][key] = value
    (tmp_path / "manifests" / "clean.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(AfbenchError, match=r"clean.json' is damaged: a key is missing or of the wrong type"):
        read_configs(tmp_path)
