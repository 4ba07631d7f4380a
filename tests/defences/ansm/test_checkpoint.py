"""Checkpoints: what they give back, and which are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from afbench.core import UsageError
from afbench.defences.ansm.checkpoint import load_ansm
from afbench.defences.ansm.module import Ansm
from afbench.localizers.checkpoint_files import state_sha256


def test_a_training_gives_a_frozen_module_that_gradients_pass_through(trained):
    network = load_ansm(trained, localizer="tiny", device="cpu")
    picture = torch.rand(2, 3, 33, 40).requires_grad_()
    found = network(picture)
    assert found.shape == picture.shape and found.min() >= 0 and found.max() <= 1
    (gradient,) = torch.autograd.grad(found.sum(), picture)
    assert gradient.abs().sum() > 0
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())
    assert network.sha256 == state_sha256(network.module) and len(network.sha256) == 64
    assert network.trained_on == ("tiny-fgsm-3",) and network.params == {
        "features": "middle",
        "stage1": "pwr",
        "stage2": "none",
    }
    assert network.card["settings"]["seed"] == 0


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss": "ffa+mgr"}, "shallow ffa original"),
        ({"loss": "ffa+mgr", "mgr_mask": "gt"}, "shallow ffa gt"),
        ({"loss": "mgr"}, "shallow none original"),
        ({"loss": "ffa"}, "shallow ffa none"),
        ({"loss": "ffa+mgr", "ffa_mask": 0.01}, "shallow ffa+mask original"),
    ],
)
def test_ablations_are_told_apart_as_the_comparison_with_the_paper_reads_them(trained, settings, told):
    rewritten(
        trained / "best.safetensors",
        lambda state, card: card["settings"].update({"depth": "shallow", **settings}),
    )
    assert " ".join(load_ansm(trained, localizer="tiny", device="cpu").params.values()) == told


def test_the_folder_stands_for_its_best_checkpoint_and_a_file_for_itself(trained):
    best = load_ansm(trained, localizer="tiny", device="cpu")
    last = load_ansm(trained / "last.safetensors", localizer="tiny", device="cpu")
    assert best.sha256 == load_ansm(trained / "best.safetensors", localizer="tiny", device="cpu").sha256
    assert last.card["finished"] is True


def test_a_checkpoint_says_everything_in_its_own_header(trained):
    alone = trained.parent / "alone.safetensors"
    (trained / "best.safetensors").rename(alone)
    card = json.loads((trained / "best.json").read_text())
    assert load_ansm(alone, localizer="tiny", device="cpu").card == card


def rewritten(path, change):
    """The same file with weights and header changed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        header = json.loads(stream.metadata()["afbench"])
    state = load_file(path)
    change(state, header)
    save_file(state, path, metadata={"afbench": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state, card: state.pop("encoder.levels.0.0.weight"), "of another network: 1 of"),
        (lambda state, card: state.update(extra=torch.zeros(1)), "1 unexpected (extra)"),
        (
            lambda state, card: state.update({"encoder.levels.0.0.weight": torch.zeros(2)}),
            "encoder.levels.0.0.weight has shape (2,), expected",
        ),
        (lambda state, card: state["encoder.levels.0.0.weight"].fill_(float("nan")), "NaN"),
        (lambda state, card: card.update(format="other"), "is no ANSM checkpoint"),
        (lambda state, card: card.pop("localizer"), "header is not complete"),
        (lambda state, card: card.update(data=[]), "header is not complete"),
        (lambda state, card: card["settings"].update(encoder="resnet18"), "is of another network"),
    ],
)
def test_a_checkpoint_of_other_layers_or_no_checkpoint_is_refused(trained, change, told):
    if "another network" in told:
        pytest.importorskip("timm")
    rewritten(trained / "best.safetensors", change)
    with pytest.raises(UsageError) as problem:
        load_ansm(trained, localizer="tiny", device="cpu")
    assert told in str(problem.value) and "\n" not in str(problem.value)


def test_a_checkpoint_of_another_localizer_is_refused(trained):
    with pytest.raises(UsageError, match="was trained for localizer 'tiny', not for 'mvss'"):
        load_ansm(trained, localizer="mvss", device="cpu")


def test_what_is_no_file_or_damaged_is_refused(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        load_ansm(tmp_path / "none.safetensors", localizer="tiny", device="cpu")
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UsageError, match="cannot be read"):
        load_ansm(tmp_path / "bad.safetensors", localizer="tiny", device="cpu")
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(UsageError, match="is no ANSM checkpoint"):
        load_ansm(tmp_path / "plain.safetensors", localizer="tiny", device="cpu")


def test_without_a_checkpoint_only_the_embedded_localizer_has_one():
    with pytest.raises(UsageError, match="no ANSM ships for 'mvss'"):
        load_ansm(None, localizer="mvss", device="cpu")


def test_the_hash_tells_weights_apart():
    torch.manual_seed(0)
    first = Ansm("small")
    before = state_sha256(first)
    with torch.no_grad():
        first.encoder.levels[0][0].weight[0, 0, 0, 0] += 1e-3
    assert state_sha256(first) != before
