"""What ``save_checkpoint`` writes has the names of a release, and is taken back wherever a checkpoint is."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from afbench import as_localizer, load_localizer
from afbench.core import UsageError
from afbench.localizers import load
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.register import add_weights
from afbench.localizers.weights import registered
from afbench.resources import resource_json

GOLDEN = Path(__file__).parent / "golden"
published = pytest.mark.parametrize("name", list(resource_json("localizers")))


@pytest.fixture
def constant_networks(monkeypatch):
    """Networks whose numbers are all alike: names are what is tested, and drawing large ones takes seconds."""
    recipe = load.recipe

    def with_constant_weights(name):
        def network():
            with torch.device("meta"):
                made = recipe(name).network()
            made.to_empty(device="cpu")
            with torch.no_grad():
                for value in made.state_dict().values():
                    value.fill_(1)
            return made

        return replace(recipe(name), network=network)

    monkeypatch.setattr(load, "recipe", with_constant_weights)


@published
def test_saved_weights_have_the_official_names_and_are_the_same_localizer(name, shrunken, tmp_path):
    save_and_load(name, tmp_path)


@pytest.mark.slow
@published
def test_so_have_those_of_whole_networks(name, constant_networks, tmp_path):
    save_and_load(name, tmp_path)


def save_and_load(name, tmp_path):
    """Save untrained weights, and check their names and that the file is the same localizer."""
    localizer = load_localizer(name, "random")
    assert state_sha256(localizer.network) == localizer.weights_sha256  # whatever loading prepares for speed
    assert not any(module.training for module in localizer.network.modules())
    path = localizer.save_checkpoint(tmp_path / "saved.safetensors")
    state = load_file(path)
    assert state.keys() == json.loads((GOLDEN / f"{name}.state.json").read_text()).keys()
    assert load_localizer(name, str(path)).weights_sha256 == localizer.weights_sha256
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["saved.safetensors"]


def test_saved_weights_can_be_added(shrunken, tmp_path, monkeypatch):
    monkeypatch.setenv("AFBENCH_WEIGHTS", str(tmp_path / "weights"))
    localizer = load_localizer("code", "random")
    add_weights("code", localizer.save_checkpoint(tmp_path / "w.pth"))
    assert registered("code").weights_sha256 == localizer.weights_sha256


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_saved_weights_of_the_reference_are_the_same_localizer(suffix, tmp_path):
    localizer = load_localizer("reference")
    saved = localizer.save_checkpoint(str(tmp_path / f"w{suffix}"))
    again = load_localizer("reference", str(saved))
    assert again.weights_sha256 == localizer.weights_sha256 == state_sha256(again.network)
    image = torch.rand(1, 3, 48, 40)
    assert torch.equal(again.logits(image), localizer.logits(image))


def test_an_own_network_is_saved_as_its_state_dict(tmp_path):
    network = torch.nn.Conv2d(3, 1, 3, padding=1)
    path = as_localizer(network, name="mine").save_checkpoint(tmp_path / "w.pt")
    state = torch.load(path, weights_only=True)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_a_file_that_exists_or_has_another_suffix_is_refused(tmp_path):
    localizer = load_localizer("reference")
    (tmp_path / "w.pt").write_text("mine")
    with pytest.raises(UsageError, match=r"w\.pt' exists; give a new file"):
        localizer.save_checkpoint(tmp_path / "w.pt")
    with pytest.raises(UsageError, match=r"must end in \.safetensors, \.pt, \.pth; found '.*w\.onnx'"):
        localizer.save_checkpoint(tmp_path / "w.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
