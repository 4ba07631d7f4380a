"""verify finds what does not belong: damaged bytes, and lies whose hashes fit."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from afbench.core import AfbenchError, ShardFormat, UsageError
from afbench.files import json_bytes, sha256_file
from afbench.images import decode_stored, encode_image, pixel_sha256
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.derived import DERIVED_FILES
from afbench.storage.manifests import TOP, WORK, open_benchmark, read_json
from afbench.storage.shard_format import path_in_format
from afbench.storage.shards import read_rows, write_shard
from afbench.storage.verify import LEVELS, rows_to_check, verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing.export import export
from afbench.workflows.request import Options

SEED = 5
FGSM = "data/reference-fgsm-1/folder-00000-of-00002.parquet"
Rows = list[dict[str, Any]]
both_formats = pytest.mark.parametrize("shard_format", ["parquet", "hdf5"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    settings = (*expand_attack("fgsm", phi=["1/255"]), *expand_attack("cw", steps=[2]))
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(root)),), settings),))
    out = tmp_path_factory.mktemp("made")
    generate(plan, out, Options(checkpoint="random", shard_size=2))
    return out


@pytest.fixture(scope="module")
def made_hdf5(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made_hdf5") / "out"
    export(made, out, "hdf5-benchmark")
    for name in DERIVED_FILES:  # `generate` writes none
        (out / name).unlink()
    return out


@pytest.fixture
def shard_format() -> ShardFormat:
    """The format of the shards, where a test is not of both."""
    return "parquet"


@pytest.fixture
def bench(shard_format: ShardFormat, request: pytest.FixtureRequest) -> Iterator[Path]:
    folder: Path = request.getfixturevalue("made_hdf5" if shard_format == "hdf5" else "made")
    kept = _files(folder)
    yield folder
    _put_back(folder, kept)


def _files(out: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def _put_back(out: Path, kept: dict[Path, bytes]) -> None:
    for path in set(_files(out)) - set(kept):
        path.unlink()
    for path, data in kept.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    if (out / WORK).exists():
        (out / WORK).rmdir()


def test_a_sound_benchmark_has_no_problem_and_every_row_is_looked_at(made: Path) -> None:
    for level in LEVELS:
        seen: list[int] = []
        assert verify(made, seen.append, level=level) == []
        assert sum(seen) == rows_to_check(made) == 3 * 3


def test_fast_sees_sizes_and_counts_default_also_bytes_and_only_deep_pixels(bench: Path) -> None:
    _flip(bench / FGSM, random.Random(SEED))
    assert verify(bench, level="fast") == []
    assert [problem.path for problem in verify(bench)] == [FGSM]
    _rewrite(bench, _beyond_the_bound)
    assert verify(bench) == [] and verify(bench, level="deep")
    _rewrite(bench, lambda rows: rows.pop())
    assert any("holds 1 rows, expected 2" in problem.message for problem in verify(bench, level="fast"))


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def _grow(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.choice([b"\n", b"\0", b"PAR1"]))


def _delete(path: Path, draw: random.Random) -> None:
    path.unlink()


def _swap(path: Path, draw: random.Random) -> None:
    near = path.parent if (path.parent / TOP).exists() else path.parent.parent  # never outside the benchmark
    others = [one for one in near.rglob(f"*{path.suffix}") if one.read_bytes() != path.read_bytes()]
    other = draw.choice(sorted(others)) if others else path.parent / TOP
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def _add(path: Path, draw: random.Random) -> None:
    path.with_name(draw.choice(["extra", ".hidden"]) + path.suffix).write_bytes(path.read_bytes())


MUTATIONS = (_flip, _cut, _grow, _delete, _swap, _add)
Mutation = Callable[[Path, random.Random], None]


@pytest.mark.reliability("R5")
@pytest.mark.parametrize("mutate", MUTATIONS)
@both_formats
def test_no_file_can_be_changed_unnoticed(bench: Path, mutate: Mutation) -> None:
    kept = _files(bench)
    for path in kept:
        if path.parent.name != "log":
            mutate(path, random.Random(f"{SEED} {path.name}"))
            assert _found(bench), path
            _put_back(bench, kept)


@pytest.mark.reliability("R5")
@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.slow)])
@both_formats
def test_random_mutations_are_all_found(
    bench: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    record_property("ran", f"{count} mutations")
    draw, kept = random.Random(SEED), _files(bench)
    paths = [path for path in kept if path.parent.name != "log"]
    for number in range(count):
        path, mutate = draw.choice(paths), draw.choice(MUTATIONS)
        mutate(path, draw)
        assert _found(bench), (number, path, mutate)
        _put_back(bench, kept)


def _found(out: Path) -> bool:
    try:
        return bool(verify(out))
    except UsageError:
        return not (out / TOP).exists()


@pytest.mark.reliability("R5")
@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"schema_version": 1', '"schema_version": 2'),
        lambda text: text.replace("\n", " "),
        lambda text: text.replace('{\n  "files"', '{\n  "author": "me",\n  "files"'),
        lambda text: text.replace(FGSM, f"../{FGSM}"),
        lambda text: text.replace('"bytes": ', '"bytes": -'),
        lambda text: '{"files": []}',
        lambda text: '{"files": {"README.md": 3}}',
        lambda text: "[" * 100_000,
        lambda text: "",
    ],
)
def test_an_edited_list_of_files_is_found(bench: Path, edit: Callable[[str], str]) -> None:
    (bench / TOP).write_text(edit((bench / TOP).read_text(encoding="utf-8")), encoding="utf-8")
    assert verify(bench)


def test_what_belongs_to_an_unfinished_run_is_told(bench: Path) -> None:
    (bench / WORK).mkdir()
    (bench / WORK / "header.json").write_text("{}")
    assert ["not finished" in problem.message for problem in verify(bench)] == [True]


def _rehash(out: Path) -> None:
    """Make every hash and size fit again, as a forger of the benchmark would."""
    for path in (out / "manifests").glob("*.json"):
        manifest = read_json(path)
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                file = out / shard["path"]
                shard.update(bytes=file.stat().st_size, sha256=sha256_file(file))
        path.write_bytes(json_bytes(manifest))
    _relist(out)


def _relist(out: Path) -> None:
    files = [path for path in _files(out) if path.parent.name != "log" and path.name != TOP]
    listing = {
        path.relative_to(out).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    (out / TOP).write_bytes(json_bytes({"schema_version": 1, "files": listing}))


def _rewrite(out: Path, change: Callable[[Rows], None], path: str = FGSM) -> None:
    rows = list(read_rows(out, [path]))
    change(rows)
    write_shard(out, path, path.split("/")[1], rows, ids_sha256="", excluded=[])
    _rehash(out)


def _repaint(row: dict[str, Any], pixels: Any, linf: int) -> None:
    row.update(image=encode_image(pixels), image_sha256=pixel_sha256(pixels), linf=linf)


def _beyond_the_bound(rows: Rows) -> None:
    number = int(rows[0]["sample_id"].removeprefix("photo"))
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    pixels[0, 0, 0] ^= 8
    _repaint(rows[0], pixels, linf=8)


LIES: dict[str, tuple[Callable[[Rows], None], str]] = {
    "beyond the bound": (_beyond_the_bound, "differs by up to 8 levels; stated 8, bound 1"),
    "another linf": (lambda rows: rows[0].update(linf=0), "stated 0"),
    "another image": (lambda rows: rows[0].update(image=rows[1]["image"]), "does not match its sha256"),
    "another mask": (
        lambda rows: rows[0].update(mask=encode_image(np.zeros((32, 32), np.uint8))),
        "decoded mask",
    ),
    "another size": (
        lambda rows: _repaint(rows[0], decode_stored(rows[0]["image"])[:16], 1),
        "do not have the stated size",
    ),
    "a lost row": (lambda rows: rows.pop(), "holds 1 rows, expected 2"),
    "an unknown sample": (lambda rows: rows[0].update(sample_id="ghost"), "not in config clean"),
    "another original": (lambda rows: rows[0].update(original_sha256="0" * 64), "another original"),
    "another psnr": (lambda rows: rows[0].update(psnr=99.0), "psnr is 99.0, its pixels say"),
    "another ssim": (lambda rows: rows[0].update(ssim=0.5), "ssim is 0.5"),
    "another l2": (lambda rows: rows[0].update(l2=0.0), "l2 is 0.0"),
    "another share of changes": (lambda rows: rows[0].update(changed=0.0), "changed is 0.0"),
    "another f1": (lambda rows: rows[0].update(f1_adv=0.123), "f1_adv is 0.123, its counts say"),
    "another iou": (lambda rows: rows[0].update(iou_adv=0.123), "iou_adv is 0.123"),
    "counts of another mask": (lambda rows: rows[0].update(tp=1, fn=2), "are not of its mask"),
    "another attack": (lambda rows: rows[0].update(attack="pgd"), "says it is ("),
    "another summary": (lambda rows: rows[0].update(f1_clean=0.9), "says f1_clean"),
    "the same sample twice": (lambda rows: rows.__setitem__(1, dict(rows[0])), "holds a sample twice"),
    "no picture": (lambda rows: rows[0].update(image=b"none"), "unreadable"),
}


@pytest.mark.reliability("R13")
@pytest.mark.parametrize(
    ("lie", "shard_format"),
    [*((lie, "parquet") for lie in LIES), ("beyond the bound", "hdf5"), ("another mask", "hdf5")],
)
def test_a_lie_is_found_even_when_every_hash_of_a_file_fits(
    bench: Path, lie: str, shard_format: ShardFormat
) -> None:
    change, said = LIES[lie]
    _rewrite(bench, change, path_in_format(FGSM, shard_format))
    found = verify(bench, level="deep")
    assert any(said in problem.message for problem in found), found


def test_rewriting_without_a_lie_is_no_problem(bench: Path) -> None:
    _rewrite(bench, lambda rows: None)
    assert verify(bench, level="deep") == []


def test_a_file_that_only_one_list_knows_is_found(bench: Path) -> None:
    (bench / "README.md").unlink()
    (bench / "data" / "stray.parquet").write_bytes((bench / FGSM).read_bytes())
    _relist(bench)
    assert {problem.path for problem in verify(bench)} == {"README.md", "data/stray.parquet"}


@pytest.mark.parametrize("key", ["how", "splits", "config", "rows", "path", "phi"])
def test_a_manifest_without_a_key_is_a_problem_and_no_traceback(bench: Path, key: str) -> None:
    path = bench / "manifests" / "reference-fgsm-1.json"
    path.write_text(path.read_text(encoding="utf-8").replace(f'"{key}":', '"lost":'), encoding="utf-8")
    _relist(bench)
    assert verify(bench)


@pytest.mark.reliability("R6")
def test_a_manifest_that_points_out_of_its_folder_is_refused(bench: Path) -> None:
    path = bench / "manifests" / "reference-fgsm-1.json"
    path.write_bytes(path.read_bytes().replace(FGSM.encode(), b"../../etc/passwd"))
    with pytest.raises(AfbenchError, match="leaves its folder"):
        open_benchmark(bench)
    assert [problem.path for problem in verify(bench)] == ["manifests/reference-fgsm-1.json"]


def test_a_manifest_whose_parameters_are_not_those_of_its_hash_is_found(bench: Path) -> None:
    path = bench / "manifests" / "reference-fgsm-1.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    _relist(bench)
    assert ["another 'how'" in problem.message for problem in verify(bench)] == [True]


def test_a_manifest_that_is_no_json_is_found_and_not_fatal(bench: Path) -> None:
    path = bench / "manifests" / "reference-fgsm-1.json"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    assert [problem.path for problem in verify(bench)] == ["manifests/reference-fgsm-1.json"]
    assert rows_to_check(bench) == 0
