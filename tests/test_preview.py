"""A contact sheet shows what was asked for, from stored bytes, and nothing else is drawn."""

import json
import shutil
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from afbench.core import UsageError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reports.sheet import SheetRow, _wrapped, contact_sheet
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.workflows import sample_choice as shown
from afbench.workflows.generation.generate import generate
from afbench.workflows.reporting import preview as workflow
from afbench.workflows.reporting.preview import preview, strongest_configs
from afbench.workflows.request import Options
from afbench.workflows.sample_choice import choose_samples


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photographs")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32 + 16 * number, 3), dtype=np.uint8)
        mask = np.zeros(pixels.shape[:2], np.uint8)
        mask[4:20, 8:24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(content).save(root / folder / f"photo{number}.png")
    out = tmp_path_factory.mktemp("made")
    settings = (*expand_attack("fgsm", phi=["1/255", "2/255"]), *expand_attack("cw", steps=[2, 3]))
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(root)),), settings),))
    generate(plan, out, Options(checkpoint="random", shard_size=2))
    return out


def _rows_drawn(sheet: Image.Image) -> int:
    """A sheet grows by the same height for every row."""
    empty = contact_sheet([], "").height
    return (sheet.height - empty) // 150


def test_the_strongest_setting_of_every_attack_is_shown_by_default(made: Path) -> None:
    assert sorted(strongest_configs(open_benchmark(made))) == ["reference-cw-3", "reference-fgsm-2"]
    sheet = preview(made, checkpoint="random")
    assert sheet.mode == "RGB" and _rows_drawn(sheet) == 2
    assert sheet.width == contact_sheet([], "").width


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 3), (64, 3)])
def test_a_config_is_drawn_for_as_many_samples_as_there_are(made: Path, count: int, rows: int) -> None:
    sheet = preview(made, configs=["reference-fgsm-1"], split="folder", count=count, checkpoint="random")
    assert _rows_drawn(sheet) == rows
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100


def test_untrained_weights_are_said_beside_every_row(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "afbench.workflows.reporting.preview.contact_sheet",
        lambda rows, title: drawn.extend(rows) or contact_sheet(rows, title),
    )
    preview(made, configs=["reference-fgsm-1"], checkpoint="random")
    assert [row.label[0] for row in drawn] == ["reference-fgsm-1 (untrained)"]


def _f1(folder: Path, config: str = "reference-fgsm-1") -> dict[str, float]:
    rows = read_rows(folder, shard_paths(open_benchmark(folder).configs[config]), ("sample_id", "f1_clean"))
    return {row["sample_id"]: row["f1_clean"] for row in rows}


def test_samples_are_spread_over_the_f1_of_the_originals(made: Path) -> None:
    f1 = _f1(made)
    ranked = sorted(f1, key=lambda name: (f1[name], name))
    benchmark = open_benchmark(made)
    for count, expected in ((1, ranked[1:2]), (2, [ranked[0], ranked[2]]), (3, ranked), (9, ranked)):
        assert choose_samples(benchmark, ["reference-fgsm-1"], count=count) == ("folder", expected)


@given(size=st.integers(1, 40), count=st.integers(1, 12))
def test_a_spread_has_as_many_as_it_can_both_ends_and_no_sample_twice(size: int, count: int) -> None:
    taken = shown._spread([str(number) for number in range(size)], count)
    assert len(taken) == len({*taken}) == min(size, count)
    assert count == 1 or (taken[0], taken[-1]) == ("0", str(size - 1))
    assert [*map(int, taken)] == sorted(map(int, taken))


def test_samples_are_drawn_by_name_in_the_order_of_the_names(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def sheet(rows: list[SheetRow], title: str) -> Image.Image:
        drawn.extend(row.label[1] for row in rows)
        return contact_sheet(rows, title)

    monkeypatch.setattr(workflow, "contact_sheet", sheet)
    names = ["photo2", "photo0", "photo2"]
    preview(made, configs=["reference-fgsm-1"], samples=names, checkpoint="random")
    assert drawn == ["photo2", "photo0"]


def test_a_sample_that_is_not_there_is_named_with_what_was_meant(made: Path) -> None:
    with pytest.raises(
        UsageError, match=r"--sample 'photo9' is not in split 'folder' of '.*'; did you mean photo"
    ):
        preview(made, samples=["photo1", "photo9"], checkpoint="random")


def test_a_long_name_is_drawn_whole(made: Path) -> None:
    font = ImageFont.load_default(size=13)
    for name in ("x" * 300, "Tp_D_CNN_M_N-" * 9, "short", "a b " * 60, ""):
        lines = _wrapped(name, 200, font)
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")
        assert all(font.getlength(line) <= 200 for line in lines)
    picture = np.zeros((9, 9, 3), np.uint8)
    row = SheetRow(["x" * 300, "F1"], picture, picture, picture[..., 0], picture[..., 0], picture[..., 0])
    assert contact_sheet([row], "t").height > contact_sheet([], "t").height + 150


def test_the_same_benchmark_gives_the_same_sheet_and_is_not_touched(made: Path) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in made.rglob("*")}

    before = state()
    first, again = (np.asarray(preview(made, count=2, checkpoint="random")) for _ in range(2))
    assert np.array_equal(first, again) and state() == before


EMBEDDED = str(files("afbench.localizers") / "weights" / "reference.safetensors")


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            {"configs": ["reference-fgsm-9"]},
            r"config 'reference-fgsm-9' is no attacked config of .* reference-fgsm-1",
        ),
        ({"configs": ["clean"]}, "config 'clean' is no attacked config"),
        ({"split": "demo"}, "split 'demo' is not in .*; its splits: folder"),
        (
            {"configs": ["reference-fgsm-1"], "checkpoint": EMBEDDED},
            r"was made with weights that are not at hand \(\w{12}\); give --checkpoint",
        ),
        (
            {"checkpoint": EMBEDDED},
            "the weights of none of the localizers attacked in .* are at hand; give --checkpoint",
        ),
        ({"checkpoint": "missing.safetensors"}, r"checkpoint 'missing.safetensors' does not exist"),
    ],
)
def test_a_wrong_config_split_or_network_is_named(made: Path, asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        preview(made, **({"checkpoint": "random"} | asked))  # type: ignore[arg-type]


@pytest.fixture
def renamed(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A copy whose manifests name another architecture: ``renamed("os:system")``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])

    def rename(architecture: str) -> Path:
        shutil.copytree(made, tmp_path / "made")
        for path in (tmp_path / "made" / "manifests").glob("reference-*.json"):
            manifest = json.loads(path.read_text())
            manifest["how"]["localizer"]["architecture"] = architecture
            path.write_text(json.dumps(manifest))
        return tmp_path / "made"

    return rename


@pytest.mark.parametrize("architecture", ["os:system", "planted:build", "planted", "../planted:build", ""])
@pytest.mark.parametrize("checkpoint", [None, "random", EMBEDDED])
def test_what_a_manifest_names_is_never_imported(
    renamed: Callable[[str], Path], architecture: str, checkpoint: str | None
) -> None:
    out = renamed(architecture)
    Path("planted.py").write_text("open('ran', 'w')\ndef build(checkpoint, device): open('ran', 'w')\n")
    for asked in ({}, {"configs": ["reference-fgsm-1"]}):
        with pytest.raises(UsageError, match="or --localizer for your own"):
            preview(out, checkpoint=checkpoint, **asked)
    assert "planted" not in sys.modules and not Path("ran").exists()


OWN = """
import afbench.localizers as localizers
def build(checkpoint, device):
    return localizers.load_localizer("reference", "random")
"""


def test_an_own_localizer_is_built_where_the_user_names_it(renamed: Callable[[str], Path]) -> None:
    out = renamed("their own")
    Path("my_preview_module.py").write_text(OWN)
    assert _rows_drawn(preview(out, localizer="my_preview_module:build")) == 2
    with pytest.raises(UsageError, match="localizer 'nowhere:build' cannot be imported"):
        preview(out, localizer="nowhere:build")


def test_an_own_localizer_of_other_weights_draws_nothing(made: Path, renamed: Callable[[str], Path]) -> None:
    Path("my_other_module.py").write_text(OWN.replace(', "random"', ""))
    for out in (made, renamed("their own")):  # random weights are asked of nobody's own
        with pytest.raises(UsageError, match="the weights of none of the localizers"):
            preview(out, localizer="my_other_module:build")


def test_a_folder_that_is_no_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no benchmark"):
        preview(tmp_path)
