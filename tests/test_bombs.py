"""A stranger's benchmark: Parquet that fills the memory, shards of another config, manifests that point outside."""

import io
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afbench import load
from afbench.core import AfbenchError
from afbench.files import json_bytes, sha256_file
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reading import parquet_store
from afbench.storage import probe
from afbench.storage.manifests import TOP, open_benchmark, read_json
from afbench.storage.schema import CLEAN_COLUMNS, arrow_schema
from afbench.storage.shards import read_rows
from afbench.storage.verify import LEVELS, verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

CLEAN = "data/clean/folder-00000-of-00001.parquet"
NOISE = "data/reference-noise-2/folder-00000-of-00001.parquet"


@pytest.fixture
def bench(photographs: Path, tmp_path: Path) -> Path:
    out = tmp_path / "bench"
    block = Block(
        ("reference",),
        (SourceSpec("folder", str(photographs)),),
        tuple(expand_attack("noise", phi=["2/255"])),
    )
    generate(RunPlan("test", (block,)), out, Options(checkpoint="random"))
    return out


def _rows(count: int, image: bytes) -> pa.Table:
    values: dict[str, Any] = {"string": "x", "int32": 1}
    picture = {"bytes": image, "path": None}
    columns = {
        name: [picture if kind in ("image", "mask") else values[kind]] * count
        for name, kind in CLEAN_COLUMNS.items()
    }
    return pa.table(columns, schema=arrow_schema(CLEAN_COLUMNS))


def _written(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def _compressed() -> bytes:
    return _written(_rows(3, bytes(16 << 20)), compression="zstd", use_dictionary=False)


def _shared() -> bytes:
    """One value of a dictionary that every row shows."""
    return _written(_rows(3, bytes(1 << 20)), compression="none", use_dictionary=True)


def _words() -> bytes:
    table = _rows(3, b"x").set_column(3, "source", pa.array(["x" * (2 << 20)] * 3))
    return _written(table.cast(arrow_schema(CLEAN_COLUMNS)), compression="none", use_dictionary=["source"])


def _other_rows() -> bytes:
    return _written(_rows(4, b"x"), compression="none", use_dictionary=False)


def _other_columns() -> bytes:
    return _written(pa.table({"image": [b"x"] * 3}), compression="none", use_dictionary=False)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "compressed": (_compressed, "is ZSTD-compressed, as no shard is"),
    "one value in many rows": (_shared, "is a dictionary, as in no shard"),
    "long words": (_words, "is larger than words are"),
    "more rows": (_other_rows, "holds 4 rows, expected 3"),
    "other columns": (_other_columns, "has other columns than a shard of its config"),
    "no Parquet": (lambda: b"PAR1" + bytes(64) + b"PAR1", "is no readable Parquet"),
}


def _plant(bench: Path, data: bytes, path: str = CLEAN) -> None:
    """Put a file in place of a shard and make every size and hash fit, as a stranger would."""
    (bench / path).write_bytes(data)
    told = {"bytes": len(data), "sha256": sha256_file(bench / path)}
    manifest = bench / "manifests" / f"{path.split('/')[1]}.json"
    content = read_json(manifest)
    content["splits"]["folder"]["shards"][0].update(told)
    manifest.write_bytes(json_bytes(content))
    listing = read_json(bench / TOP)
    listing["files"][path] = told
    name = f"manifests/{manifest.name}"
    listing["files"][name] = {"bytes": manifest.stat().st_size, "sha256": sha256_file(manifest)}
    (bench / TOP).write_bytes(json_bytes(listing))


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_planted_shard_is_refused_by_name_at_every_level_and_nothing_changes(
    bench: Path, bomb: str
) -> None:
    make, said = BOMBS[bomb]
    _plant(bench, make())
    before = {path: path.stat().st_mtime_ns for path in bench.rglob("*")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for level in LEVELS:
        (problem,) = verify(bench, level=level)
        assert problem.path == CLEAN and said in problem.message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 << 10
    assert {path: path.stat().st_mtime_ns for path in bench.rglob("*")} == before


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("bomb", ["compressed", "one value in many rows", "long words", "no Parquet"])
def test_readers_refuse_it_too_before_they_decode_anything(bench: Path, bomb: str) -> None:
    _plant(bench, BOMBS[bomb][0]())
    with pytest.raises(AfbenchError, match=rf"shard '{CLEAN}' cannot be read"):
        list(read_rows(bench, [CLEAN]))


@pytest.mark.reliability("R6")
def test_a_packed_copy_that_unfolds_to_too_much_is_refused_before_this_process_reads_it(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0]), ["x" * (64 << 20)])
    data = _written(_rows(3, b"x").set_column(3, "source", word), compression="zstd", store_schema=False)
    assert len(data) < 1 << 20
    _plant(bench, data)
    monkeypatch.setattr(parquet_store, "memory_for", lambda size: 100 << 20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AfbenchError, match=rf"shard '{CLEAN}' cannot be read \(takes too much memory"):
        load(bench, "clean")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100 << 10


@pytest.mark.reliability("R6")
def test_pages_are_read_with_little_memory_before_this_process_reads_them(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _plant(bench, _written(_rows(3, bytes(8 << 20)), compression="none", use_dictionary=False))
    assert verify(bench, level="fast") == [] == verify(bench)
    monkeypatch.setattr(probe, "MEMORY", 0)  # all of it, libraries too, in four times the file
    found = {problem.path: problem.message for problem in verify(bench, level="deep")}
    assert found[CLEAN].startswith("takes too much memory")


@pytest.mark.reliability("R6")
def test_reading_that_does_not_end_is_stopped(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0)
    started = time.monotonic()
    found = list(probe.probe_shards(bench, {CLEAN: 3, NOISE: 3}, decode=True))
    assert {problem.path for problem in found} <= {CLEAN, NOISE} and time.monotonic() - started < 60
    assert all("memory or time" in problem.message for problem in found)


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "data/../../outside"])
@pytest.mark.parametrize("where", ["list", "config"])
def test_a_path_that_leaves_the_folder_is_refused_by_name(
    afbench: Any, bench: Path, path: str, where: str
) -> None:
    (bench.parent / "outside").write_text("mine")
    file = bench / TOP if where == "list" else bench / "manifests" / "reference-noise-2.json"
    file.write_bytes(file.read_bytes().replace(NOISE.encode(), path.encode()))
    before = {one: one.stat().st_mtime_ns for one in bench.parent.rglob("*") if one.is_file()}
    for level in ((), ("--deep",), ("--fast",)):
        ran = afbench("verify", *level, str(bench))
        assert ran.code == 1 and "Traceback" not in ran.err
        assert path in ran.out or "manifests/reference-noise-2.json" in ran.out
    after = {one: one.stat().st_mtime_ns for one in bench.parent.rglob("*") if one.is_file()}
    assert after == before
    # the list follows from the manifests of the configs, which are checked; those follow from nothing
    assert afbench("verify", "--repair", str(bench)).code == (0 if where == "list" else 1)
    assert path not in (bench / TOP).read_text(encoding="utf-8")
    assert (bench.parent / "outside").read_text() == "mine"


@pytest.mark.reliability("R5")
def test_a_shard_of_another_config_is_found_even_where_every_hash_fits(bench: Path) -> None:
    _plant(bench, (bench / NOISE).read_bytes(), CLEAN)
    assert ["other columns" in problem.message for problem in verify(bench)] == [True]


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("phi", ["1e-999999999", "1/0", "9" * 400, "-1/255", "nan", 10**400, [], True])
def test_a_phi_that_would_take_hours_to_read_is_refused_by_its_manifest(bench: Path, phi: Any) -> None:
    path = bench / "manifests" / "reference-noise-2.json"
    content = read_json(path)
    content["how"]["phi"] = phi
    path.write_text(json.dumps(content))
    start = time.process_time()
    with pytest.raises(AfbenchError, match=r"reference-noise-2\.json' is damaged"):
        open_benchmark(bench)
    assert time.process_time() - start < 1
