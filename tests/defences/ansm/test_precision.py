"""``--precision bf16``: passes of the module in half precision, all that is kept or compared in float32."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from afbench.core import UsageError
from afbench.defences.ansm.find_write import FinderOutput
from afbench.defences.ansm.parts import build_module
from afbench.defences.ansm.settings import UNRECORDED, replace_settings
from afbench.defences.ansm.train import _in_precision

RECIPES = [
    {"loss": "ffa+mgr"},
    {"recipe": "find-write", "steps": (4, 3), "bound": 0.25, "originals": 0.25, "noisy": 0.25},
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_module_trained_in_bf16_is_kept_in_float32_and_says_so(run, tmp_path, recipe):
    card = run(tmp_path / "half", precision="bf16", **recipe)
    plain = run(tmp_path / "plain", **recipe)
    assert card["settings"]["precision"] == "bf16" and plain["settings"]["precision"] == "fp32"
    halved, weights = (load_file(tmp_path / name / "last.safetensors") for name in ("half", "plain"))
    assert {value.dtype for value in halved.values()} <= {torch.float32, torch.int64}
    assert any(not torch.equal(halved[name], weights[name]) for name in weights)
    assert json.loads((tmp_path / "half" / "best.json").read_text()) == card


@pytest.mark.parametrize("recipe", ["paper", "find-write"])
def test_residuals_of_255_levels_are_computed_in_float32(monkeypatch, recipe):
    module = build_module({"recipe": recipe, "encoder": "small", "bound": 0.25})
    precisions = []
    conv2d = F.conv2d

    def watched(inputs, weight, *arguments, **options):
        result = conv2d(inputs, weight, *arguments, **options)
        if weight.shape[-2:] == (5, 5):
            precisions.append(result.dtype)
        return result

    monkeypatch.setattr(F, "conv2d", watched)
    part = module.finder if recipe == "find-write" else module
    result = _in_precision(part, "bf16")(torch.rand(1, 3, 32, 32))
    assert precisions == [torch.float32]
    if recipe == "find-write":
        assert (
            isinstance(result, FinderOutput) and result.forged.dtype == result.attacked.dtype == torch.float32
        )
    else:
        assert result.dtype == torch.float32


def test_a_training_from_before_it_was_a_setting_was_in_float32():
    assert UNRECORDED["precision"] == "fp32"


def test_another_precision_is_refused(tiny):
    with pytest.raises(UsageError, match="precision"):
        replace_settings(tiny(), {"precision": "fp16"})
