"""The script that trains the embedded localizer, on a handful of pictures."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from afbench.localizers.nets.reference import ReferenceNet
from afbench.plan.runplan import SEED_LIMIT

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train_reference"
TINY = {"steps": 4, "batch": 2, "pool": 6, "workers": 1, "every": 2}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("train_reference", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    module._forge = lambda index: module.synthesize(
        module.SEED, index
    )  # procedural: no worker needs pickling
    module.Pool = _InProcess
    return module


class _InProcess:
    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "_InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def imap(self, function, indices, chunksize: int):
        return ((made.image, made.mask) for made in map(function, indices))


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(script, tmp_path, monkeypatch):
    whole = load_file(script.train(tmp_path / "whole", **TINY))
    draw = script.draw_batch

    def fail_at_three(images, masks, step, **options):
        if step == 3:
            raise KeyboardInterrupt
        return draw(images, masks, step, **options)

    monkeypatch.setattr(script, "draw_batch", fail_at_three)
    with pytest.raises(KeyboardInterrupt):
        script.train(tmp_path / "stopped", **TINY)
    monkeypatch.setattr(script, "draw_batch", draw)
    resumed = load_file(script.train(tmp_path / "stopped", **TINY))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_training_weights_fit_the_network_that_ships(script, tmp_path):
    weights = load_file(script.train(tmp_path, **TINY))
    ReferenceNet().load_state_dict(weights)


def test_the_training_seed_cannot_be_reached_from_the_command_line(script):
    assert script.SEED >= SEED_LIMIT


def test_the_loss_of_a_perfect_prediction_is_near_zero_and_of_a_wrong_one_is_not(script):
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    right = script.training_loss(40 * (truth - 0.5), truth)
    wrong = script.training_loss(-40 * (truth - 0.5), truth)
    assert right < 1e-3
    assert wrong > 1
