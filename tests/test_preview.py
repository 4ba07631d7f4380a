"""A contact sheet shows what was asked for, from stored bytes, and nothing else is drawn."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afbench.core import UsageError
from afbench.plan import Block, RunPlan, SourceSpec, expand_attack
from afbench.report.sheet import contact_sheet
from afbench.storage.manifests import open_benchmark
from afbench.workflows.generate import generate
from afbench.workflows.preview import preview, strongest
from afbench.workflows.request import Options


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
    assert sorted(strongest(open_benchmark(made))) == ["reference-cw-3", "reference-fgsm-2"]
    sheet = preview(made, checkpoint="random")
    assert sheet.mode == "RGB" and _rows_drawn(sheet) == 2
    assert sheet.width == contact_sheet([], "").width


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 3), (64, 3)])
def test_a_config_is_drawn_for_as_many_samples_as_there_are(made: Path, count: int, rows: int) -> None:
    sheet = preview(made, configs=["reference-fgsm-1"], split="folder", count=count, checkpoint="random")
    assert _rows_drawn(sheet) == rows
    assert len(np.unique(np.asarray(sheet).reshape(-1, 3), axis=0)) > 100


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
            r"was made with other weights \(\w{12}\); give --checkpoint",
        ),
        ({"checkpoint": EMBEDDED}, "embedded weights; give --checkpoint"),
        ({"checkpoint": "missing.safetensors"}, r"checkpoint 'missing.safetensors' does not exist"),
    ],
)
def test_a_wrong_config_split_or_network_is_named(made: Path, asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        preview(made, **({"checkpoint": "random"} | asked))  # type: ignore[arg-type]


def test_a_folder_that_is_no_benchmark_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no benchmark"):
        preview(tmp_path)
