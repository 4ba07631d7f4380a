"""A stored picture that cannot be decoded is one line that names it, whichever command meets it."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from afbench.core import AfbenchError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows, write_shard
from afbench.storage.stored_pixels import stored_picture
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

ATTACKED = "reference-noise-2"
COMMANDS = {
    "preview": ("preview", "B", "--checkpoint", "random", "--out", "out.png"),
    "predict": (
        "predict",
        "--data",
        "B",
        "--localizer",
        "reference",
        "--checkpoint",
        "random",
        "--out",
        "out",
    ),
    "evaluate": (
        "evaluate",
        "--data",
        "B",
        "--localizer",
        "reference",
        "--checkpoint",
        "random",
        "--defence",
        "jpeg",
    ),
    "export": ("export", "B", "--to", "png", "--out", "out"),
    "reproduce": ("reproduce", "B", "--row", f"{ATTACKED}/folder/photo0", "--checkpoint", "random"),
    "verify --rescore": ("verify", "B", "--rescore", "--checkpoint", "random"),
    "train": (
        "train",
        "ansm",
        "--data",
        "B",
        "--localizer",
        "reference",
        "--checkpoint",
        "random",
        "--out",
        "out",
    ),
}


@pytest.fixture(scope="module")
def bench(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    block = Block(
        ("reference",),
        (SourceSpec("folder", str(photographs)),),
        tuple(expand_attack("noise", phi=["2/255"])),
    )
    return generate(
        RunPlan("test", (block,)), tmp_path_factory.mktemp("made") / "B", Options(checkpoint="random")
    ).folder


def _damage(folder: Path, config: str, column: str) -> None:
    (path,) = shard_paths(open_benchmark(folder).configs[config])
    rows = list(read_rows(folder, [path]))
    rows[0] = {**rows[0], column: rows[0][column][:40] + b"no picture"}
    write_shard(folder, path, config, rows, ids_sha256="", excluded=())


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("config", "column"), [("clean", "image"), ("clean", "mask"), (ATTACKED, "image")])
def test_a_damaged_picture_is_one_line(
    bench: Path, afbench: Any, tmp_path: Path, command: str, config: str, column: str
) -> None:
    shutil.copytree(bench, tmp_path / "B")
    _damage(tmp_path / "B", config, column)
    ran = afbench(*COMMANDS[command])
    # what nobody foresaw would name the traceback
    assert "--debug" not in ran.err and "Traceback" not in ran.err


def test_a_damaged_picture_is_named_with_what_to_do(bench: Path) -> None:
    row = {"sample_id": "photo0", "image": b"RIFF", "mask": b""}
    with pytest.raises(AfbenchError, match=r"'B' is damaged: image of photo0: .*; see `afbench verify B`"):
        stored_picture(Path("B"), row)
    (path,) = shard_paths(open_benchmark(bench).configs["clean"])
    row = next(iter(read_rows(bench, [path])))
    with pytest.raises(AfbenchError, match=r"mask of photo0: .*expected"):
        stored_picture(bench, {**row, "height": 33}, "mask")
