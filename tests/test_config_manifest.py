"""A manifest that is read and written again is the same, whatever its version said and left out."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from afbench.core import AfbenchError
from afbench.files import json_bytes
from afbench.resources import resource_path
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import TOP, read_configs
from afbench.storage.verify import verify

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
    assert json.dumps(manifest.as_json()) == json.dumps(json.loads(json_bytes(stored)))  # the same order
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


def _tampered(made: Any, folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "clean") -> Path:
    """A copy of a benchmark with one manifest changed, and listed as it is then."""
    out = Path(shutil.copytree(made.folder, folder / "B"))
    path = out / "manifests" / f"{name}.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    change(stored)
    path.write_bytes(json_bytes(stored))
    listing = json.loads((out / TOP).read_text(encoding="utf-8"))
    data = path.read_bytes()
    listing["files"][f"manifests/{name}.json"] = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    (out / TOP).write_bytes(json_bytes(listing))
    return out


def _split(stored: dict[str, Any]) -> dict[str, Any]:
    split: dict[str, Any] = stored["splits"]["folder"]
    return split


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("clean", lambda stored: stored.update(note="x"), "top level: .*'note' was unexpected"),
        ("clean", lambda stored: _split(stored).pop("samples"), "splits/folder: 'samples' is a required"),
        ("clean", lambda stored: _split(stored).update(samples="3"), "splits/folder/samples: '3' is not of"),
        (
            "clean",
            lambda stored: _split(stored)["shards"][0].update(sha256="A" * 64),
            "splits/folder/shards/0/sha256: 'A+' does not match",
        ),
        ("reference-fgsm-1", lambda stored: stored.pop("how"), "top level: 'how' is a required property"),
        (
            "reference-fgsm-1",
            lambda stored: _split(stored).pop("summary"),
            "splits/folder: 'summary' is a required",
        ),
        (
            "reference-fgsm-1",
            lambda stored: stored["how"].update(step="\x1b[31m" * 99),
            "how: .*'step' was unexpected",
        ),
    ],
)
def test_verify_says_in_one_line_where_a_manifest_breaks_its_schema(
    afbench: Any, made: Any, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    out = _tampered(made, tmp_path, change, name)
    (problem,) = verify(out, level="fast")
    assert problem.path == f"manifests/{name}.json" and len(problem.message) < 260
    assert re.fullmatch(f"does not follow its schema: {message}.*", problem.message)
    ran = afbench("verify", "B", "--fast")
    assert ran.code == 1 and ran.out.splitlines()[0] == f"{problem.path}: {problem.message}"


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        ({"schema_version": 2, "files": {}}, "schema_version: 1 was expected"),
        ({"schema_version": 1}, "top level: 'files' is a required property"),
        ({"schema_version": 1, "files": []}, r"files: \[\] is not of type 'object'"),
        ({"schema_version": 1, "files": {"a": {"bytes": 1}}}, "files/a: 'sha256' is a required property"),
    ],
)
def test_verify_says_in_one_line_where_the_list_of_files_breaks_its_schema(
    made: Any, tmp_path: Path, listing: dict[str, Any], message: str
) -> None:
    out = Path(shutil.copytree(made.folder, tmp_path / "B"))
    (out / TOP).write_bytes(json_bytes(listing))
    (problem,) = verify(out)
    assert problem.path == TOP
    assert re.fullmatch(f"does not follow its schema: {message}.*", problem.message)


@pytest.mark.parametrize(
    "path", sorted(resource_path("manifests/schema").glob("*.json")), ids=lambda path: path.stem
)
def test_every_schema_is_one(path: Path) -> None:
    Draft202012Validator.check_schema(json.loads(path.read_text(encoding="utf-8")))
