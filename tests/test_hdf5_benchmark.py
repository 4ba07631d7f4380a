"""A benchmark of HDF5 shards is its Parquet twin in everything but the files: rows, figures, commands, exports."""

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from afbench import load, results
from afbench.core import AfbenchError, UsageError
from afbench.files import json_bytes, sha256_file
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack, plan_as_json, plan_from_json, read_plan
from afbench.storage.hdf5_read import reading_shard
from afbench.storage.manifests import TOP, open_benchmark, read_json, shard_paths
from afbench.storage.shards import read_rows, shard_bytes
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing.export import export
from afbench.workflows.publishing.restore import restore
from afbench.workflows.request import Options

CONFIG = "reference-fgsm-3"
SHARD = f"data/{CONFIG}/folder-00000-of-00002.h5"


class Twins(NamedTuple):
    """The same plan in both formats; not to be changed."""

    parquet: Path
    hdf5: Path
    plan: RunPlan


@pytest.fixture(scope="module")
def twins(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Twins:
    base = tmp_path_factory.mktemp("twins")
    source = SourceSpec("folder", str(photographs))
    attacks = tuple(expand_attack("fgsm", phi=["1/255", "3/255"]))
    plan = RunPlan("twins", (Block(("reference",), (source,), attacks),))
    with pytest.MonkeyPatch.context() as patch:
        # a commit made while the tests run must not look like another benchmark
        patch.setattr("afbench.workflows.generation.generate.software", dict)
        generate(plan, base / "parquet/twin", Options(shard_size=2))
        generate(plan, base / "hdf5/twin", Options(shard_size=2, shard_format="hdf5"))
    return Twins(base / "parquet/twin", base / "hdf5/twin", plan)


@pytest.fixture
def bench(twins: Twins, tmp_path: Path) -> Path:
    """A copy of the HDF5 twin, to be changed."""
    return Path(shutil.copytree(twins.hdf5, tmp_path / "bench"))


def tree(folder: Path) -> dict[str, str]:
    return {path: entry["sha256"] for path, entry in read_json(folder / TOP)["files"].items()}


def test_rows_summaries_and_hashes_of_configs_are_those_of_parquet(twins: Twins) -> None:
    parquet, hdf5 = (open_benchmark(folder).configs for folder in (twins.parquet, twins.hdf5))
    assert list(parquet) == list(hdf5)
    for name in parquet:
        rows = [
            list(read_rows(folder, shard_paths(configs[name])))
            for folder, configs in ((twins.parquet, parquet), (twins.hdf5, hdf5))
        ]
        assert rows[0] == rows[1] and len(rows[0]) == 3
        assert parquet[name].config_hash == hdf5[name].config_hash
        assert parquet[name].splits["folder"].summary == hdf5[name].splits["folder"].summary
    assert {Path(path).suffix for path in tree(twins.hdf5) if path.startswith("data/")} == {".h5"}
    recorded = read_json(twins.hdf5 / "manifests/clean.json")["splits"]["folder"]
    assert recorded.pop("format") == "hdf5"
    assert recorded.keys() == read_json(twins.parquet / "manifests/clean.json")["splits"]["folder"].keys()


def test_the_same_rows_give_the_same_bytes_whatever_is_undefined(twins: Twins) -> None:
    (row, *_) = read_rows(twins.hdf5, [SHARD])
    row |= {"psnr": float("inf"), "f1_adv": None, "zero_gradient_pixels": None, "group": "Übung"}
    data = shard_bytes(SHARD, CONFIG, [row])
    assert shard_bytes(SHARD, CONFIG, [dict(row)]) == data
    path = twins.hdf5.parent / "row" / SHARD
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert list(read_rows(path.parents[2], [SHARD])) == [{**row, "psnr": None}]


def test_an_export_to_the_other_format_is_the_benchmark_made_in_it(twins: Twins, tmp_path: Path) -> None:
    for folder, to, twin in (
        (twins.parquet, "hdf5-benchmark", twins.hdf5),
        (twins.hdf5, "parquet", twins.parquet),
        (twins.hdf5, "hdf5-benchmark", twins.hdf5),
    ):
        out = tmp_path / f"{folder.parent.name}-{to}"
        export(folder, out, to)
        assert tree(out) == tree(twin) and verify(out, level="deep") == []


def test_an_archive_is_the_same_of_both_and_restores_what_it_was_made_of(
    twins: Twins, tmp_path: Path
) -> None:
    for folder in (twins.parquet, twins.hdf5):
        archive, out = tmp_path / f"{folder.parent.name}-archive", tmp_path / f"{folder.parent.name}-restored"
        export(folder, archive, "hdf5", with_originals=True)
        assert verify(archive, level="deep") == []
        restored = restore(archive, out, {})
        assert restored.identical == restored.shards == 6 and tree(out) == tree(folder)
    data = [
        {path: sha256 for path, sha256 in tree(tmp_path / name).items() if path.startswith("data/")}
        for name in ("parquet-archive", "hdf5-archive")
    ]
    assert data[0] == data[1]
    with pytest.raises(UsageError, match=r"is an archive, which cannot grow; `afbench restore`"):
        generate(twins.plan, tmp_path / "hdf5-archive", Options(shard_format="hdf5"))


@pytest.mark.parametrize("to", ["imagefolder", "webdataset"])
def test_exports_for_other_tools_are_the_same_of_both(twins: Twins, tmp_path: Path, to: str) -> None:
    trees = []
    for folder in (twins.parquet, twins.hdf5):
        export(folder, tmp_path / folder.parent.name, to, configs=[CONFIG])
        trees.append(
            {path: sha for path, sha in tree(tmp_path / folder.parent.name).items() if path[0] != "p"}
        )
    assert trees[0] == trees[1]


def test_load_gives_equal_samples_in_any_order(twins: Twins) -> None:
    for config in ("all", "clean"):
        first, second = load(twins.parquet, config), load(twins.hdf5, config)
        assert first.sizes == second.sizes and first.groups == second.groups and len(first) == len(second)
        for number in reversed(range(len(first))):
            expected, sample = first[number], second[number]
            assert expected.keys() == sample.keys()
            for key, value in expected.items():
                assert torch.equal(sample[key], value) if torch.is_tensor(value) else sample[key] == value


NAME = ("--localizer", "reference")
COMMANDS = {
    "stats": ("stats", "BENCH", "--json"),
    "verify": ("verify", "BENCH", "--deep", "--json"),
    "reproduce": ("reproduce", "BENCH", "--row", f"{CONFIG}/folder/photo1", "--json"),
    "evaluate": ("evaluate", "--data", "BENCH", *NAME, "--defence", "jpeg:75", "--out", "evaluated"),
    "predict": ("predict", "--data", "BENCH", *NAME, "--defence", "median", "--out", "submission"),
    "score": ("score", "submission", "--data", "BENCH", "--out", "scored"),
    "preview": ("preview", "BENCH", "--out", "preview.png"),
}


def test_every_command_says_of_both_the_same(afbench: Any, twins: Twins, tmp_path: Path) -> None:
    results: dict[Path, dict[str, Any]] = {}
    for folder in (twins.parquet, twins.hdf5):
        results[folder] = {}
        for name, arguments in COMMANDS.items():
            ran = afbench(*(str(folder) if argument == "BENCH" else argument for argument in arguments))
            assert "error" not in ran.err, (name, ran.err)
            results[folder][name] = ran.code, ran.out.replace(str(folder), "BENCH")
        for path in ("evaluated/evaluation.json", "scored/score.json"):
            results[folder][path] = json.loads((tmp_path / path).read_text())
        results[folder]["preview.png"] = (tmp_path / "preview.png").read_bytes()
        for path in ("evaluated", "submission", "scored"):
            shutil.rmtree(tmp_path / path)
    expected, actual = (
        {name: _figures(result) for name, result in results[folder].items()} for folder in results
    )
    assert actual == expected


def _figures(value: Any) -> Any:
    """Leave out what names the files of a benchmark, which are others, and the time that a command took."""
    if isinstance(value, dict):
        # a version of a benchmark is one of its files, so a copy in the other format is another version
        names = {
            "configs_sha256",
            "dataset",
            "dataset_version",
            "manifest_sha256",
            "submission_sha256",
            "seconds",
        }
        return {key: _figures(inner) for key, inner in value.items() if key not in names}
    if isinstance(value, (list, tuple)):
        return [_figures(inner) for inner in value]
    return re.sub(r"\.(h5|parquet)\b", "", value) if isinstance(value, str) else value


def test_a_training_gives_the_same_weights(afbench: Any, twins: Twins, tmp_path: Path) -> None:
    small = (
        "--crop",
        "32",
        "--batch-size",
        "2",
        "--epochs",
        "1",
        "1",
        "--validation",
        "0.3",
        "--loss",
        "pwr",
    )
    weights = []
    for folder in (twins.parquet, twins.hdf5):
        out = tmp_path / f"trained-{folder.parent.name}"
        ran = afbench(
            *("train", "ansm", "--data", folder, "--localizer", "reference", "--out", out),
            *("--preset", "short", *small),
        )
        assert ran.code == 0, ran.err
        weights.append(load_file(out / "best.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[1][name], value) for name, value in weights[0].items())


def test_a_folder_has_one_format_and_asking_for_the_other_says_so(
    afbench: Any, twins: Twins, tmp_path: Path
) -> None:
    run = ("generate", "--attack", "fgsm", "--source", "demo", "--limit", "1", *NAME)
    ran = afbench(*run, "--format", "hdf5", "--out", twins.parquet)
    assert ran.code == 2 and ran.out == "" and len(ran.err.splitlines()) == 1
    assert "has parquet shards, and a folder has one format" in ran.err
    assert "--to hdf5-benchmark --out OTHER" in ran.err
    plan = tmp_path / "plan.yaml"
    block = {"localizers": ["reference"], "sources": ["demo"], "attacks": [{"attack": "fgsm"}]}
    plan.write_text(yaml.safe_dump({"name": "x", "format": "parquet", "blocks": [block]}))
    asked = read_plan(str(plan))
    assert plan_from_json(json.loads(json.dumps(plan_as_json(asked)))) == asked
    ran = afbench("generate", "--plan", plan, "--out", twins.hdf5)
    assert ran.code == 2 and "has hdf5 shards" in ran.err and "--to parquet --out OTHER" in ran.err


def test_who_makes_an_hdf5_benchmark_is_told_how_datasets_gets_its_pictures(
    afbench: Any, bench: Path, twins: Twins, photographs: Path
) -> None:
    message = "load_dataset gives the rows of HDF5 shards without image and mask; afbench.load gives both"
    run = ("generate", *NAME, "--attack", "fgsm", "--phi", "1/255", "--source", f"folder:{photographs}")
    for command, is_told in (
        ((*run, "--out", bench), True),
        ((*run, "--out", twins.parquet), False),
        (("export", twins.parquet, "--to", "hdf5-benchmark", "--out", "copy"), True),
        (("export", bench, "--to", "parquet", "--out", "back"), False),
    ):
        ran = afbench(*command)
        assert ran.code == 0 and (message in ran.out) == is_told, (command, ran.err)


def test_a_folder_grows_in_its_own_format_without_being_asked(bench: Path, photographs: Path) -> None:
    source = SourceSpec("folder", str(photographs))
    plan = RunPlan("more", (Block(("reference",), (source,), tuple(expand_attack("noise", phi=["1/255"]))),))
    generate(plan, bench, Options())
    assert len(list(bench.glob("data/reference-noise-1/*.h5"))) == 2 and verify(bench) == []


def _rehash(folder: Path) -> None:
    """Make every hash fit again, as a forger of the benchmark would."""
    for path in (folder / "manifests").glob("*.json"):
        manifest = read_json(path)
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                file = folder / shard["path"]
                shard.update(bytes=file.stat().st_size, sha256=sha256_file(file))
        path.write_bytes(json_bytes(manifest))
    listing = read_json(folder / TOP)
    for path, entry in listing["files"].items():
        entry.update(bytes=(folder / path).stat().st_size, sha256=sha256_file(folder / path))
    (folder / TOP).write_bytes(json_bytes(listing))


def _link_out(file: h5py.File) -> None:
    del file["data"]
    file["data"] = h5py.ExternalLink("/etc/passwd", "/x")


def _claim_chunks(file: h5py.File) -> None:
    del file["data"]
    file.create_dataset("data", (2**40,), "u1", chunks=(2**20,), compression="gzip")


def _hold_objects(file: h5py.File) -> None:
    del file["kind"]
    file.create_dataset("kind", data=["a", "b"], dtype=h5py.string_dtype())


def _hold_compounds(file: h5py.File) -> None:
    del file["linf"]
    file.create_dataset("linf", data=np.zeros(2, [("a", "i4"), ("b", "i4")]))


HOSTILE = {
    "an external link": (_link_out, "'data' is an external link"),
    "huge chunks": (_claim_chunks, "data is chunked"),
    "objects": (_hold_objects, "kind is of an object or variable-length type"),
    "compounds": (_hold_compounds, "linf is of an object or variable-length type"),
}


@pytest.mark.reliability("R6")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_shard_in_place_of_one_is_refused_in_one_line(
    afbench: Any, bench: Path, tmp_path: Path, kind: str
) -> None:
    change, message = HOSTILE[kind]
    with h5py.File(bench / SHARD, "r+") as file:
        change(file)
    _rehash(bench)
    (problem,) = verify(bench, level="fast")
    assert problem.path == SHARD and message in problem.message
    with pytest.raises(AfbenchError, match=re.escape(message)):
        load(bench, CONFIG)
    ran = afbench("predict", "--data", bench, *NAME, "--out", "submission")
    *bar, line = ran.err.splitlines()
    assert ran.code == 1 and message in line and all("img/s" in text for text in bar if text), ran.err


def test_a_shard_of_another_kind_or_config_is_found(bench: Path) -> None:
    other = bench / "data/clean/folder-00000-of-00002.h5"
    sound = (bench / SHARD).read_bytes()
    (bench / SHARD).write_bytes(other.read_bytes())
    _rehash(bench)
    assert ["is a shard of config clean" in problem.message for problem in verify(bench)] == [True]
    (bench / SHARD).write_bytes(b"PAR1" + bytes(64) + b"PAR1")
    _rehash(bench)
    assert ["no readable HDF5" in problem.message for problem in verify(bench)] == [True]
    (bench / SHARD).write_bytes(sound)
    manifest = bench / "manifests/clean.json"
    manifest.write_text(re.sub(r'\s*"format": "hdf5",', "", manifest.read_text()))
    _rehash(bench)
    assert {problem.message for problem in verify(bench)} == {
        "is no Parquet shard, as manifests/clean.json says of folder"
    }


@pytest.mark.parametrize("other", ["reference-fgsm-1", "clean"])
def test_a_shard_of_another_config_gives_nobody_its_rows(afbench: Any, bench: Path, other: str) -> None:
    shutil.copyfile(bench / SHARD.replace(CONFIG, other), bench / SHARD)
    message = f"is a shard of config {other}, split folder, not of {CONFIG}, folder"
    with pytest.raises(AfbenchError, match=message):
        results(bench, CONFIG)
    ran = afbench("preview", bench, "--out", "preview.png")
    assert ran.code == 1 and message in ran.err and ran.err.count("\n") == 1


def test_a_parquet_shard_without_the_columns_of_its_config_gives_nobody_its_rows(
    afbench: Any, twins: Twins, tmp_path: Path
) -> None:
    bench = Path(shutil.copytree(twins.parquet, tmp_path / "bench"))
    shard = SHARD.replace(".h5", ".parquet")
    shutil.copyfile(bench / shard.replace(CONFIG, "clean"), bench / shard)
    with pytest.raises(AfbenchError, match="has no column 'attack', which a shard of its config has"):
        list(read_rows(bench, [shard], ["attack"]))


def test_a_parquet_shard_of_another_attacked_config_gives_nobody_its_rows(
    afbench: Any, twins: Twins, tmp_path: Path
) -> None:
    bench = Path(shutil.copytree(twins.parquet, tmp_path / "bench"))
    assert afbench("predict", "--data", bench, *NAME, "--out", "submission").code == 0
    shard = SHARD.replace(".h5", ".parquet")
    shutil.copyfile(bench / shard.replace(CONFIG, "reference-fgsm-1"), bench / shard)
    message = f"shard '{shard}' has .* bytes, its manifest records .*: it is damaged, or another config's"
    for read in (lambda: load(bench, CONFIG), lambda: results(bench, CONFIG)):
        with pytest.raises(AfbenchError, match=message):
            read()
    for command in (
        ("evaluate", "--data", bench, *NAME, "--quiet"),
        ("predict", "--data", bench, *NAME, "--out", "other", "--quiet"),
        ("score", "submission", "--data", bench, "--out", "score", "--quiet"),
        ("preview", bench),
    ):
        ran = afbench(*command)
        assert ran.code == 1 and ran.err.count("\n") == 1, (command, ran.err)
        assert re.search(message, ran.err), (command, ran.err)
    assert not Path("score").exists()


@pytest.mark.reliability("R5")
@pytest.mark.parametrize("name", ["data", "mask_data", "f1_adv"])
def test_a_flipped_bit_is_noticed_by_whoever_reads_it_without_any_hash_of_the_file(
    bench: Path, name: str
) -> None:
    with h5py.File(bench / SHARD) as file:
        position = file[name].id.get_offset() + 3
    data = bytearray((bench / SHARD).read_bytes())
    data[position] ^= 1
    (bench / SHARD).write_bytes(data)
    with pytest.raises(AfbenchError, match="checksum"):
        list(read_rows(bench, [SHARD]))
    _rehash(bench)
    (problem,) = verify(bench, level="deep")
    assert problem.path == SHARD and "checksum" in problem.message
    if name == "data":
        with pytest.raises(AfbenchError, match="checksum"):
            load(bench, CONFIG)[0]


def test_its_card_reads_it_with_h5py_and_datasets_loads_the_columns(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import datasets

    text = (bench / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text.split("## What is in it")[0], re.DOTALL)
    assert "<!--" not in text and "load_dataset(folder" not in text
    # before the first thing to paste
    assert "**`datasets.load_dataset` gives their rows without the pictures**" in text.split("```python")[0]
    monkeypatch.chdir(bench)
    exec(code, {})
    config = next(iter(open_benchmark(bench).attacked))
    paths = shard_paths(open_benchmark(bench).configs[config])
    (first, *_) = rows = list(read_rows(bench, paths))
    assert capsys.readouterr().out.split()[:3] == [
        first["sample_id"], str(first["f1_clean"]), str(first["f1_adv"]),
    ]  # fmt: skip
    loaded = datasets.load_dataset(str(bench), config, split="folder", cache_dir=str(tmp_path / "cache"))
    assert loaded["sample_id"][:] == [row["sample_id"] for row in rows]
    assert loaded["f1_adv"][:] == [row["f1_adv"] for row in rows]
    assert "image" not in loaded.column_names


def test_plain_h5py_reads_a_shard_by_the_lines_of_the_docs(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / "docs/storage.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n([^`]*shard\[\"mask_offset\"\][^`]*)```", text)
    monkeypatch.chdir(twins.hdf5)
    names: dict[str, Any] = {}
    exec(re.sub(r'File\("[^"]*"\)', f'File("{SHARD}")', code), names)
    with reading_shard(twins.hdf5 / SHARD) as shard:
        assert np.array_equal(names["image"], shard.picture(0))
        assert np.array_equal(names["mask"], shard.picture(0, "mask_data"))


def test_a_shard_is_written_without_a_time(
    twins: Twins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = list(read_rows(twins.parquet, [SHARD.replace(".h5", ".parquet")]))
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert shard_bytes(SHARD, CONFIG, rows) == (twins.hdf5 / SHARD).read_bytes()
