"""scripts/loss_table: its figures are those of the stored images."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from afbench.core import AfbenchError
from afbench.scoring.truth import open_truth
from afbench.storage.manifests import open_benchmark

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "loss_table"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = spec_from_loader("loss_table", SourceFileLoader("loss_table", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_is_a_loss_and_a_number_of_gradients_and_a_column_a_phi(
    afbench: Any, tmp_path: Path, script: Any
) -> None:
    out = tmp_path / "out"
    common = ("generate", "--localizer", "reference", "--attack", "bim", "--source", "demo", "--limit", 2)
    assert afbench(*common, "--phi", "1/255", "--param", "steps=1", "--out", out).code == 0
    soft = ("--param", "steps=2", "--param", "loss=soft-f1", "--phi", "1/255", "--phi", "2/255")
    assert afbench(*common, *soft, "--out", out).code == 0
    head, rule, first, second = script.loss_table(open_truth(out)).splitlines()
    assert head == "| loss | gradients | 1/255 | 2/255 |" and rule == "|---|--:|--:|--:|"
    assert first.startswith("| `bce` | 1 | ") and first.endswith(" |  |")
    assert second.startswith("| `soft-f1` | 2 | ")
    (plain,) = [
        manifest.splits["demo"].summary["f1_adv"]
        for manifest in open_benchmark(out).attacked.values()
        if "loss" not in manifest.provenance["params"]
    ]
    assert first.split("|")[3].split()[0] == f"{plain:.3f}" and " to " in first


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (("bim", "--where", "all"), ("bim", "--where", "forged"), "several attacks or localizers"),
        (("bim",), ("apgd", "--param", "steps=1"), "several attacks or localizers"),
        (("bim",), ("noise",), "reference-noise-1 has no loss of its own"),
        (("bim",), ("bim", "--through-defence", "jpeg"), "reference_jpeg_75-bim-1.* went through a defence"),
        (
            ("bim",),
            ("bim", "--param", "alpha_over_phi=1"),
            "two configs have loss bce, 1 gradients and phi 1/255",
        ),
    ],
)
def test_configs_that_a_row_would_not_tell_apart_are_refused(
    afbench: Any, tmp_path: Path, script: Any, first: Any, second: Any, message: str
) -> None:
    for attack, *options in (first, second):
        steps = ("--param", "steps=1") if attack == "bim" else ()
        common = ("--localizer", "reference", "--attack", attack, *options, *steps, "--phi", "1/255")
        assert afbench("generate", *common, "--source", "demo", "--limit", 1, "--out", tmp_path).code == 0
    with pytest.raises(AfbenchError, match=message):
        script.loss_table(open_truth(tmp_path))
