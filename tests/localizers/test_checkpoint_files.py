"""Checkpoints as training scripts leave them are opened without running anything; other files are named for what they are."""

import argparse
import gzip
import pathlib
import pickle
import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from afbench.core import UsageError
from afbench.localizers.checkpoint_files import read_state

STATE = {"stem.weight": torch.arange(6.0).view(2, 3), "head.model.bias": torch.ones(2)}


def equals_state(found, expected=STATE):
    return list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)


def save(tmp_path, content, name="w.pth", **how):
    torch.save(content, tmp_path / name, **how)
    return tmp_path / name


def refusal_message(path):
    with pytest.raises(UsageError) as problem:
        read_state(path)
    told = str(problem.value)
    assert "\n" not in told and str(path) in told
    return told


NESTS = st.lists(
    st.sampled_from(["model", "net", "model_state_dict", "model_dict", "state_dict"]), max_size=3
)
WRAPPERS = st.lists(st.sampled_from(["module.", "model.", "_orig_mod."]), max_size=3)


@settings(max_examples=25)
@given(nests=NESTS, wrappers=WRAPPERS, zipped=st.booleans())
def test_every_nesting_and_prefix_of_training_scripts_is_opened(tmp_path_factory, nests, wrappers, zipped):
    content = {"".join(wrappers) + key: value for key, value in STATE.items()}
    for nest in nests:
        content = {"epoch": 3, nest: content, "best": 0.5}
    path = save(tmp_path_factory.mktemp("w"), content, _use_new_zipfile_serialization=zipped)
    assert equals_state(read_state(path))


def test_a_prefix_that_not_every_name_has_is_part_of_the_name(tmp_path):
    state = {"model.conv.weight": torch.ones(1), "head.weight": torch.ones(1)}
    assert equals_state(read_state(save(tmp_path, state)), state)


def foreign_values():
    parameters = [torch.nn.Parameter(torch.ones(2))]
    adam = torch.optim.AdamW(parameters, lr=1e-3)
    parameters[0].sum().backward()
    adam.step()
    return {
        "f1": np.float64(0.5),
        "epoch": np.int64(3),
        "losses": np.arange(4.0),
        "random": np.random.RandomState(0).get_state(),
        "args": argparse.Namespace(
            lr=np.float32(0.1), out=pathlib.PurePosixPath("a").parent.name, devices=[0]
        ),
        "folder": pathlib.Path("runs"),
        "optimizer": adam.state_dict(),
        "scheduler": torch.optim.lr_scheduler.StepLR(adam, 3).state_dict(),
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "model": "unet",  # a name, not weights
        "net": {"width": 32},
    }


def test_what_training_scripts_leave_beside_the_weights_is_passed_over(tmp_path):
    # made here: the first optimizer of a process costs seconds, which collecting tests should not
    for name, value in foreign_values().items():
        path = save(tmp_path, {"state_dict": STATE, name: value}, f"{name}.pth")
        assert equals_state(read_state(path)), name


def test_a_number_that_numpy_1_pickled_is_passed_over_too(tmp_path):
    path = save(tmp_path, {"state_dict": STATE, "f1": np.float64(0.5)}, _use_new_zipfile_serialization=False)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != path.read_bytes()
    path.write_bytes(old)
    assert equals_state(read_state(path))


def test_no_function_of_numpy_is_run(tmp_path, monkeypatch):
    path = save(tmp_path, {"state_dict": STATE, "f1": np.float64(0.5), "losses": np.arange(3)})

    def run(*args):
        raise AssertionError("numpy was called")

    monkeypatch.setattr(np._core.multiarray, "scalar", run)
    monkeypatch.setattr(np._core.multiarray, "_reconstruct", run)
    assert equals_state(read_state(path))


def test_an_array_of_numpy_in_a_weights_place_is_no_tensor(tmp_path):
    told = refusal_message(save(tmp_path, {"stem.weight": np.ones(3)}))
    assert "holds no state dict of tensors; found stem.weight" in told


def test_weights_in_two_places_are_not_guessed_between(tmp_path):
    told = refusal_message(save(tmp_path, {"model": STATE, "net": STATE}))
    assert (
        "holds weights in several places (model, net); save the right ones alone: torch.save(checkpoint['model']"
        in told
    )


def test_a_nest_that_holds_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    assert "holds no state dict of tensors; found model" in refusal_message(save(tmp_path, content))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_pickled_network_is_named_with_what_to_do(tmp_path, zipped):
    path = save(tmp_path, torch.nn.Sequential(torch.nn.Linear(2, 2)), _use_new_zipfile_serialization=zipped)
    told = refusal_message(path)
    assert (
        "it holds 'torch.nn.modules.container.Sequential' (a whole pickled network, or an object beside"
        in told
    )
    assert "save the weights alone: torch.save(network.state_dict(), 'weights.pth')" in told


def test_settings_of_omegaconf_beside_the_weights_are_named_with_what_to_do(tmp_path, monkeypatch):
    """OmegaConf itself is not installed: a class of its module's name is pickled like it."""
    module = ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, "omegaconf", ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    told = refusal_message(save(tmp_path, {"state_dict": STATE, "cfg": module.DictConfig()}))
    assert "it holds 'omegaconf.dictconfig.DictConfig' (settings of OmegaConf beside the weights)" in told
    assert told.endswith("torch.save(torch.load(FILE, weights_only=False)['state_dict'], 'weights.pth')")


def zip_bytes(path, inside):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(inside, b"x")
    return path.read_bytes()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 614392111\n"


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty; download it again"),
        (POINTER, "is a git-LFS pointer to a file of 614,392,111 bytes, not the file; run `git lfs pull`"),
        (
            b"\n <!DOCTYPE html><html><title>Google Drive - Virus scan warning",
            "is a web page saved in the place",
        ),
        (b"\xef\xbb\xbf<html>Quota exceeded</html>", "is a web page saved in the place"),
        (b'{"error": "not found"}\n', "is a text file; give the file of the weights"),
        (gzip.compress(b"x", mtime=0), "is a gzip archive; unpack it"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(30), "is a 7z archive; unpack it"),
        (b"Rar!\x1a\x07\x00" + bytes(30), "is a RAR archive; unpack it"),
    ],
)
def test_another_kind_of_file_is_named_for_what_it_is(tmp_path, suffix, content, told):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    assert told in refusal_message(path)


def test_a_zip_around_the_file_asks_to_be_unpacked(tmp_path):
    zip_bytes(tmp_path / "w.pth", "mvssnet_casia.pt")
    assert "is a zip archive without a PyTorch file's data.pkl; unpack it" in refusal_message(
        tmp_path / "w.pth"
    )


def test_a_plain_pickle_says_how_to_save_what_can_be_opened(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": [1]}, protocol=4))
    assert "was not opened: it is no PyTorch file of plain tensors" in refusal_message(tmp_path / "w.pth")


def test_names_of_safetensors_lose_their_wrappers_too(tmp_path):
    save_file({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "w.safetensors")
    assert equals_state(
        dict(sorted(read_state(tmp_path / "w.safetensors").items())), dict(sorted(STATE.items()))
    )
