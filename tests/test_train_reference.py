"""The script that trains the embedded localizer, on a handful of pictures."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from afbench.localizers.nets.reference_net import ReferenceNet
from afbench.plans.runplan import SEED_LIMIT
from afbench.sources.synthesis import synthesize

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "train_reference"
TINY = {"steps": 4, "batch": 2, "pool": 6, "workers": 1, "save_steps": 2}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("train_reference", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    module._forge = _forge
    module.Pool = _InProcess
    return module


def _forge(seed, index):
    made = synthesize(2**40 + seed, index)  # procedural: no photographs to load
    return made.image, made.mask


class _InProcess:
    def __init__(self, workers: int) -> None:
        pass

    def __enter__(self) -> "_InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def imap(self, function, indices, chunksize: int):
        return map(function, indices)


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
    assert script.SEED_OFFSET >= SEED_LIMIT


def test_another_seed_gives_other_weights_in_a_folder_of_its_own(script, tmp_path):
    shipped, second = (
        load_file(script.train(tmp_path / str(seed), seed=seed, **TINY)) for seed in (script.DEFAULT_SEED, 7)
    )
    assert not torch.equal(shipped["head.weight"], second["head.weight"])
    with pytest.raises(SystemExit, match=f"a training with --seed 7, not {script.DEFAULT_SEED}"):
        script.train(tmp_path / "7", **TINY)


def test_the_loss_of_a_perfect_prediction_is_near_zero_and_of_a_wrong_one_is_not(script):
    truth = torch.zeros(1, 1, 8, 8)
    truth[..., :4] = 1
    right = script.training_loss(40 * (truth - 0.5), truth)
    wrong = script.training_loss(-40 * (truth - 0.5), truth)
    assert right < 1e-3
    assert wrong > 1


def test_the_temperature_of_overconfident_logits_is_found(script, monkeypatch):
    """Outcomes drawn with the probability of a logit, which the network then states three times as large."""
    generator = torch.Generator().manual_seed(0)
    honest = torch.randn(6, 1, 64, 64, generator=generator)
    outcome = torch.rand(honest.shape, generator=generator) < honest.sigmoid()
    image = torch.zeros(64, 64, 3, dtype=torch.uint8).numpy()
    monkeypatch.setattr(script, "_forge", lambda seed, index: (image, 255 * outcome[index, 0].byte().numpy()))
    stated = iter(3 * honest)

    class Overconfident(torch.nn.Module):
        def forward(self, picture):
            return next(stated)[None]

    assert script.fit_temperature(Overconfident(), first=0, count=6, seed=0) == pytest.approx(3, abs=0.2)
