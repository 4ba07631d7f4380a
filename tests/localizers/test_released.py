"""Checkpoints as their authors release them give the published numbers; other files are refused in one line."""

import argparse
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from as_released import FOLDERS, as_released
from fill import GAIN, fill
from safetensors.torch import save_file
from torch.nn import functional as F

from afbench import load_localizer
from afbench.core import UsageError
from afbench.localizers import load
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.released import released_state

GOLDEN = Path(__file__).parent / "golden"
FOLLOWING = dict(zip(GAIN, [*list(GAIN)[1:], *list(GAIN)[:1]], strict=True))
"""Of each localizer another one."""
HERE = ("mvss", "ifosn", "hdfnet", "code", "pscc")
"""Localizers whose released file is opened here; test_golden_nets.py opens those of the others."""
BIG = ("mvss", "ifosn", "pscc")
"""Of these, whose pass takes ten seconds, each network's own test compares with the published numbers in float64."""


def random_tensor(seed, shape):
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape))


def differentiable(name, localizer, image):
    """The published probability with its own gradient; CoDE's straight-through one is for attacks."""
    return localizer.network(image).clamp(1e-6, 1 - 1e-6) if name == "code" else localizer.probability(image)


@pytest.mark.parametrize("name", GAIN)
def test_a_released_file_holds_the_localizer_that_was_packed(name, shrunken, tmp_path):
    network = load.recipe(name).network()
    path = as_released(name, network.state_dict(), tmp_path / "released")
    localizer = load_localizer(name, str(path), resolution="input")
    assert (localizer.name, localizer.untrained) == (name, False)
    assert localizer.weights_sha256 == state_sha256(network)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in BIG)) for name in HERE]
)
def test_the_released_file_gives_the_published_probability_and_gradient(name, tmp_path):
    network = fill(load.recipe(name).network(), name)
    digest = state_sha256(network)
    path = as_released(name, network.state_dict(), tmp_path / "released")
    del network
    localizer = load_localizer(name, str(path), resolution="input")
    shutil.rmtree(tmp_path / "released")
    assert (localizer.name, localizer.untrained, localizer.weights_sha256) == (name, False, digest)
    with np.load(GOLDEN / f"{name}.npz") as stored:
        golden = {key: stored[key] for key in ("prob", "grad")}
    image = random_tensor(101, golden["grad"].shape).float().requires_grad_()
    target = (random_tensor(1101, golden["prob"].shape) > 0.5).float()
    probability, expected = localizer.probability(image).detach(), torch.from_numpy(golden["prob"])
    assert (probability - expected).abs().max() < (1e-3 if name == "pscc" else 2e-5)
    loss = F.binary_cross_entropy(differentiable(name, localizer, image), target)
    (gradient,), expected = torch.autograd.grad(loss, image), torch.from_numpy(golden["grad"])
    assert probability.dtype == gradient.dtype == torch.float32
    assert (gradient - expected).norm() / expected.norm() < 2e-2
    assert (gradient.sign() != expected.sign()).double().mean() < 1e-3


def test_the_hash_of_weights_does_not_depend_on_their_packaging(tmp_path):
    name = "pscc"
    network = load.recipe(name).network()
    state, expected = network.state_dict(), state_sha256(network)
    torch.save(state, tmp_path / "bare.pt")
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "prefixed.pth")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "both.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "w.safetensors")
    paths = [*tmp_path.iterdir(), as_released(name, state, tmp_path / "released")]
    found = {path.name: load_localizer(name, str(path)).weights_sha256 for path in paths}
    assert found == dict.fromkeys(found, expected) and len(found) == 6


def test_weights_of_an_older_half_are_those_it_holds(tmp_path):
    state = load.recipe("code").network().half().state_dict()
    torch.save(state, tmp_path / "half.pt")
    found = load_localizer("code", str(tmp_path / "half.pt")).network.state_dict()
    assert found["conv_stem.0.weight"].dtype == torch.float32
    assert torch.equal(found["conv_stem.0.weight"].half(), state["conv_stem.0.weight"])


@pytest.fixture
def meta_networks(monkeypatch):
    """Networks without numbers: what is refused by name needs none, and big ones take seconds to draw."""
    recipe = load.recipe

    def on_meta(name):
        def network():
            with torch.device("meta"):
                return recipe(name).network()

        return replace(recipe(name), network=network)

    monkeypatch.setattr(load, "recipe", on_meta)


def empty_state(name):
    """The official names of a localizer with next to nothing under them."""
    names = json.loads((GOLDEN / f"{name}.state.json").read_text())
    return {key: torch.zeros(1) for key in names}


def refusal(name, path):
    with pytest.raises(UsageError) as problem:
        load_localizer(name, str(path))
    assert "\n" not in str(problem.value) and str(path) in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize(("owner", "asked"), FOLLOWING.items())
def test_weights_of_another_localizer_name_both_sides_and_their_owner(meta_networks, tmp_path, owner, asked):
    path = as_released(owner, empty_state(owner), tmp_path)
    if path.is_dir():
        assert f"is a folder; localizer '{asked}' is released as one file" in refusal(asked, path)
        path = path / FOLDERS["HRNet"] / "HRNet.pth"
    told = refusal(asked, path)
    ours, theirs = empty_state(asked).keys(), released_state(asked, path).keys()
    assert f"is of another network: {len(ours - theirs)} of {len(ours)} keys missing (" in told
    assert f", ...), {len(theirs - ours)} unexpected (" in told
    assert f"it looks like {'HRNet.pth, one of three files of ' if owner == 'pscc' else ''}'{owner}'" in told


@pytest.mark.parametrize(
    ("name", "added", "variant"),
    [
        ("mvss", "head.ConvGeM.conv.weight", "MVSS-Net++"),
        ("trufor", "decode_head_np.linear_pred.weight", ""),
    ],
)
def test_another_version_of_a_network_is_refused_with_words(meta_networks, tmp_path, name, added, variant):
    state = empty_state(name)
    state.pop(next(reversed(state)))
    torch.save(state | {added: torch.zeros(1)}, tmp_path / "w.pt")
    example = f", such as {variant}" if variant else ""
    note = f"({added}); it looks like another version of '{name}'{example}, which afbench does not have"
    assert refusal(name, tmp_path / "w.pt").endswith(note)


def test_a_file_that_lacks_names_is_no_other_version(meta_networks, tmp_path):
    torch.save(dict(list(empty_state("mvss").items())[1:]), tmp_path / "w.pt")
    assert refusal("mvss", tmp_path / "w.pt").endswith("), 0 unexpected")


@pytest.mark.parametrize("name", GAIN)
def test_right_names_with_wrong_shapes_are_refused(meta_networks, tmp_path, name):
    path = as_released(name, empty_state(name), tmp_path)
    assert re.search(r": \S+ has shape \(1,\), expected \(\d+, .*\)$", refusal(name, path))


@pytest.mark.parametrize("owner", GAIN)
def test_the_reference_says_whose_weights_it_was_given(tmp_path, owner):
    torch.save(empty_state(owner), tmp_path / "w.pt")
    assert refusal("reference", tmp_path / "w.pt").endswith(f"; it looks like '{owner}'")


def test_the_references_weights_are_known_too(meta_networks, tmp_path):
    shutil.copy(Path(load.__file__).parent / "weights" / "reference.safetensors", tmp_path)
    assert refusal("pscc", tmp_path / "reference.safetensors").endswith("; it looks like 'reference'")


def test_weights_of_nobody_known_are_laid_at_nobodys_door(meta_networks, tmp_path):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pt")
    assert refusal("mvss", tmp_path / "w.pt").endswith("1 unexpected (fc.weight)")


@pytest.mark.parametrize("part", FOLDERS)
def test_one_file_of_pscc_alone_asks_for_its_folder(meta_networks, tmp_path, part):
    folder = as_released("pscc", empty_state("pscc"), tmp_path)
    told = refusal("pscc", folder / FOLDERS[part] / f"{part}.pth")
    assert f"it looks like {part}.pth, one of three files of 'pscc': give the folder that holds them" in told


@pytest.mark.parametrize("part", FOLDERS)
def test_a_folder_of_pscc_needs_each_file_once(meta_networks, tmp_path, part):
    folder = as_released("pscc", empty_state("pscc"), tmp_path)
    path = folder / FOLDERS[part] / f"{part}.pth"
    shutil.copy(path, folder / f"{part}.pth")
    told = refusal("pscc", folder)
    assert f"{part}.pth is there 2 times (" in told and "; PSCC-Net is released as HRNet.pth, NLC" in told
    (folder / f"{part}.pth").unlink()
    path.unlink()
    assert f"{part}.pth is missing; PSCC-Net is released as HRNet.pth" in refusal("pscc", folder)


def test_files_of_pscc_that_changed_places_are_refused(meta_networks, tmp_path):
    folder = as_released("pscc", empty_state("pscc"), tmp_path)
    ours, theirs = (folder / FOLDERS[part] / f"{part}.pth" for part in ("HRNet", "NLCDetection"))
    ours.rename(tmp_path / "kept")
    theirs.rename(ours)
    (tmp_path / "kept").rename(theirs)
    assert "is of another network" in refusal("pscc", folder)


@pytest.mark.parametrize("name", GAIN)
def test_an_empty_folder_is_refused(tmp_path, meta_networks, name):
    assert ("HRNet.pth is missing" if name == "pscc" else "is a folder") in refusal(name, tmp_path)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Foreign:
    """A training script's own class."""


@pytest.mark.parametrize("inside", ["beside", "namespace", "state"])
@pytest.mark.parametrize("foreign", [Bomb, Foreign])
def test_an_object_beside_the_weights_is_refused_and_not_made(meta_networks, tmp_path, inside, foreign):
    guest = Bomb(tmp_path / "boom") if foreign is Bomb else Foreign()
    content = {"state_dict": empty_state("code")}
    if inside == "beside":
        content["optimizer"] = guest
    elif inside == "namespace":
        content["args"] = argparse.Namespace(lr=1e-4, callback=guest)
    else:
        content["state_dict"]["mu.7.bias"] = guest
    torch.save(content, tmp_path / "w.pth")
    told = refusal("code", tmp_path / "w.pth")
    assert f"it holds '{'posix.mkdir' if foreign is Bomb else f'{__name__}.Foreign'}' (" in told
    assert "could run code; where it was made, save the weights alone" in told
    assert not (tmp_path / "boom").exists()


def test_a_bomb_among_the_three_files_of_pscc_does_not_go_off(meta_networks, tmp_path):
    folder = as_released("pscc", empty_state("pscc"), tmp_path)
    torch.save({"module.x": Bomb(tmp_path / "boom")}, folder / FOLDERS["DetectionHead"] / "DetectionHead.pth")
    with pytest.raises(UsageError, match=r"DetectionHead\.pth' was not opened: .* could run code"):
        load_localizer("pscc", str(folder))
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    state = load.recipe("code").network().state_dict()
    state["mu.7.bias"].fill_(value)
    told = refusal("code", as_released("code", state, tmp_path))
    assert told.endswith("mu.7.bias holds NaN, infinite or overflowing values")


def test_a_tensor_of_another_shape_or_kind_is_named(tmp_path):
    state = load.recipe("code").network().state_dict()
    for value, told in (
        (torch.zeros(3), r"mu.7.bias has shape (3,), expected (1,)"),
        (
            torch.zeros(1, dtype=torch.int64),
            "mu.7.bias is torch.int64, torch.strided on cpu; expected dense torch.float32",
        ),
    ):
        assert refusal("code", as_released("code", state | {"mu.7.bias": value}, tmp_path)).endswith(told)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = as_released("code", load.recipe("code").network().state_dict(), tmp_path)
    with path.open("r+b") as stream:
        stream.truncate(int(share * path.stat().st_size))
    refusal("code", path)


@pytest.mark.parametrize("name", [name for name in GAIN if name != "pscc"])
def test_a_truncated_file_of_every_release_is_refused(meta_networks, tmp_path, name):
    path = as_released(name, empty_state(name), tmp_path)
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size // 2)
    assert f"checkpoint '{path}' cannot be read: " in refusal(name, path)


@pytest.mark.parametrize(
    "content", [b"the weights are on my other disk\n", b"<html>Quota exceeded</html>", b""]
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_a_text_file_is_refused(meta_networks, tmp_path, suffix, content):
    (tmp_path / f"w{suffix}").write_bytes(content)
    refusal("mvss", tmp_path / f"w{suffix}")


def test_filters_of_mvss_that_cannot_be_normalised_are_refused_in_one_line(tmp_path, monkeypatch):
    """With a stand-in for the rest of the network, which takes seconds to draw."""
    from afbench.localizers.nets.mvss_net import ConstrainedConv

    class Rest(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.constrain_conv = ConstrainedConv()

        def freeze_bayar(self):
            self.constrain_conv.frozen()

    recipe = replace(load.recipe("mvss"), network=Rest)
    monkeypatch.setattr(load, "recipe", lambda name: recipe)
    torch.save({"constrain_conv.kernel": torch.zeros(1, 3, 24)}, tmp_path / "w.pt")
    assert "filter 0 must have a finite sum other than zero" in refusal("mvss", tmp_path / "w.pt")
