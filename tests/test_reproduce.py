"""Where a row comes from, and that it can be made again."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from afbench.core import UsageError
from afbench.images import decode_stored, encode_image, pixel_sha256
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.contents import inspect
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.schema import ATTACKED_COLUMNS
from afbench.storage.shards import read_rows, write_shard
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options
from afbench.workflows.rerun.reproduce import reproduce

pytestmark = pytest.mark.reliability("R16")
SETTINGS = (
    *expand_attack("bim", params={"steps": 3}),
    *expand_attack("pgd", params={"steps": 2}),
    *expand_attack("cw", steps=[2, 5]),
)


@pytest.fixture(scope="module")
def made(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reproduce") / "made"
    block = Block(("reference",), (SourceSpec("folder", str(photographs)),), SETTINGS)
    generate(RunPlan("test", (block,), seed=3), out, Options(checkpoint="random"))
    return out


@pytest.fixture(scope="module")
def row(made: Path) -> str:
    (config,) = [name for name in open_benchmark(made).attacked if name.startswith("reference-pgd-2")]
    return f"{config}/folder/photo2"


def test_every_row_of_a_benchmark_can_be_made_again_bit_by_bit(made: Path) -> None:
    for config in open_benchmark(made).attacked:
        for sample, company in (("photo0", ["photo0", "photo2"]), ("photo1", ["photo1"])):
            done = reproduce(made, f"{config}/folder/{sample}")
            assert done.identical and (done.levels, done.values, done.differs) == (0, 0, "")
            assert done.of == 32 * (48 if sample == "photo1" else 32) * 3
            assert set(done.batch) <= set(company) and sample in done.batch


def test_a_row_alone_runs_by_itself(made: Path, row: str) -> None:
    done = reproduce(made, row, alone=True)
    assert done.batch == ["photo2"] and done.levels <= 1


def test_a_row_with_other_pixels_is_compared_value_by_value(
    made: Path, row: str, tmp_path: Path, afbench: Any
) -> None:
    out = Path(shutil.copytree(made, tmp_path / "copy"))
    config = row.partition("/")[0]
    (path,) = shard_paths(open_benchmark(out).configs[config])
    rows = list(read_rows(out, [path]))
    pixels = decode_stored(rows[2]["image"]).copy()
    pixels[0, 0, 0] ^= 4
    rows[2].update(image=encode_image(pixels), image_sha256=pixel_sha256(pixels))
    write_shard(out, path, config, rows, ids_sha256="", excluded=[])
    done = reproduce(out, row)
    assert (done.identical, done.levels, done.values) == (False, 4, 1) and done.differs
    ran = afbench("reproduce", str(out), "--row", row)
    assert ran.code == 1 and "differs by up to 4 levels in 1 of 3072 values" in ran.out


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("reference-cw-2", "CONFIG/SPLIT/SAMPLE_ID"),
        ("mvss-cw-2/folder/photo0", "has no config 'mvss-cw-2'; it has clean, reference-"),
        ("reference-cw-2/demo/photo0", "has no split 'demo'; its splits: folder"),
        (
            "reference-cw-2/folder/photo9",
            "has no sample 'photo9' in split 'folder'; its samples: photo0 to photo2",
        ),
        ("clean/folder/photo0", "is an original"),
    ],
)
def test_a_row_that_is_none_is_refused_with_what_there_is(made: Path, row: str, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        reproduce(made, row)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    "command",
    [
        ["stats"],
        ["inspect"],
        ["verify"],
        ["predict", "--localizer", "reference", "--out", "submission", "--data"],
    ],
    ids=lambda command: command[0],
)
def test_a_list_of_files_that_cannot_be_read_is_told_by_every_command(
    afbench: Any, made: Path, tmp_path: Path, command: list[str]
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    (folder / "MANIFEST.json").write_text("{")
    ran = afbench(*command, str(folder))
    assert ran.code == 1 and "MANIFEST.json' cannot be read: " in ran.out + ran.err
    assert not Path("submission").exists()


def test_the_command_says_identical(afbench: Any, made: Path, row: str) -> None:
    ran = afbench("reproduce", str(made), "--row", row)
    assert ran.code == 0 and ran.out.startswith(f"{row}: identical, 3072 values")
    assert json.loads(afbench("reproduce", str(made), "--row", row, "--json").out)["identical"] is True


def test_every_row_carries_its_provenance(made: Path, row: str) -> None:
    told = inspect(made, sample_id="photo2")["rows"]
    assert len(told) == 1 + len(SETTINGS) and "clean/folder/photo2" in told
    one = told[row]
    assert one["row"].keys() == ATTACKED_COLUMNS.keys() - {"image", "mask"}
    assert one["how"]["seed"] == 3 and one["how"]["localizer"]["untrained"] and len(one["config_hash"]) == 64
    assert one["software"]["libraries"]["torch"] and one["source"]["source_sha256"]
    assert one["shard"]["path"].startswith(f"data/{row.partition('/')[0]}/")
    assert len(one["shard"]["together"]) == 3 and row.partition("/")[0] in one["shard"]["together"]
    json.dumps(told)


def test_inspect_tells_of_a_folder_a_config_and_a_sample(afbench: Any, made: Path, row: str) -> None:
    config = row.partition("/")[0]
    told = json.loads(afbench("inspect", str(made), "--json").out)
    assert told["configs"][config]["images"] == 3 and told["splits"]["folder"]["samples"] == 3
    one = json.loads(afbench("inspect", str(made), "--config", config, "--json").out)
    assert one["how"]["attack"] == "pgd" and len(one["splits"]["folder"]["shards"]) == 1
    rows = json.loads(afbench("inspect", str(made), "--config", config, "--sample", "photo2", "--json").out)
    assert list(rows["rows"]) == [row]
    assert "image_sha256: " in afbench("inspect", str(made), "--sample", "photo2").out
    for arguments in (("--config", "none"), ("--sample", "none")):
        ran = afbench("inspect", str(made), *arguments)
        assert ran.code == 2 and "none'" in ran.err and len(ran.err.splitlines()) == 1


def test_a_finished_run_warns_of_shards_that_were_cut_since(afbench: Any, tmp_path: Path) -> None:
    command = [
        "generate",
        "--localizer",
        "reference",
        "--attack",
        "fgsm",
        "--phi",
        "1/255",
        "--source",
        "demo",
        "--limit",
        "1",
        "--out",
        "B",
    ]
    assert afbench(*command).code == 0 and afbench(*command).err.count("warning") == 0
    (shard,) = Path("B/data/reference-fgsm-1").iterdir()
    shard.write_bytes(shard.read_bytes()[:1000])
    ran = afbench(*command)
    assert (
        ran.code == 0
        and f"1 of 2 shards are missing or have another size than when they were made (first: {shard.relative_to('B')})"
        in ran.err
    )
    assert afbench("verify", "B", "--repair").code == 0 and "shards are missing" not in afbench(*command).err
