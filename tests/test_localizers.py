"""The embedded localizer, and checkpoints nobody vouches for."""

import ast
import os
import pickle
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import afbench
from afbench.core import UsageError
from afbench.localizers import list_localizers, load_localizer, require_localizer
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.nets.reference_net import ReferenceNet
from afbench.localizers.untrained import is_untrained
from afbench.resources import resource_json

WEIGHTS = files("afbench.localizers") / "weights" / "reference.safetensors"


@pytest.fixture(scope="module")
def localizer():
    return load_localizer("reference", "random")


@pytest.fixture(scope="module")
def image():
    return torch.rand(3, 3, 37, 53, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lived_in():
    """A network whose batch norms have seen something, unlike a new one's."""
    torch.manual_seed(1)
    network = ReferenceNet()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias)
    return network.eval()


def refusal(checkpoint, name="reference"):
    with pytest.raises(UsageError) as problem:
        load_localizer(name, str(checkpoint))
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize("size", [(37, 53), (16, 16), (17, 128), (128, 128), (16, 200)])
def test_outputs_have_the_size_of_the_image(localizer, size):
    image = torch.rand(2, 3, *size)
    assert localizer.logits(image).shape == localizer.probability(image).shape == (2, 1, *size)
    maps = [localizer.features(image, third) for third in ("shallow", "middle", "topmost")]
    padded = [side + -side % 16 for side in size]
    assert [[tuple(one.shape[2:]) for one in third] for third in maps] == [
        [(padded[0] // step, padded[1] // step) for step in steps] for steps in ((2, 4), (8, 16), (8, 4, 2))
    ]
    assert [[one.shape[1] for one in third] for third in maps[:2]] == [[16, 32], [64, 128]]
    assert [tuple(one.shape) for one in localizer.features(image)] == [tuple(one.shape) for one in maps[1]]


def test_probability_is_the_sigmoid_of_the_logits(localizer, image):
    probability = localizer.probability(image)
    assert torch.equal(probability, torch.sigmoid(localizer.logits(image)))
    assert probability.min() >= 0 and probability.max() <= 1
    assert localizer.threshold == 0.5 and localizer.name == "reference"


def test_logits_are_differentiable_and_bear_values_outside_the_range(localizer, image):
    leaf = (3 * image - 1).requires_grad_()
    (slope,) = torch.autograd.grad(localizer.logits(leaf).sum(), leaf)
    assert torch.isfinite(slope).all() and slope.abs().sum() > 0


def test_an_image_does_not_depend_on_its_batch(lived_in):
    image = torch.rand(3, 3, 48, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = lived_in.double()
    with torch.no_grad():
        together = network(image)
        for row in range(3):
            torch.testing.assert_close(network(image[row : row + 1])[0], together[row], rtol=0, atol=1e-12)


def test_the_embedded_localizer_does_not_depend_on_its_batch_either(image):
    localizer = load_localizer("reference")
    with torch.no_grad():
        together = localizer.logits(image)
        for row in range(3):
            alone = localizer.logits(image[row : row + 1])[0]
            torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=1e-3)


def test_a_forward_pass_changes_nothing(localizer, image):
    before = {name: value.clone() for name, value in localizer.network.state_dict().items()}
    first = localizer.logits(image)
    assert torch.equal(localizer.logits(image), first)
    assert all(torch.equal(value, before[name]) for name, value in localizer.network.state_dict().items())
    assert not localizer.network.training
    assert not any(parameter.requires_grad for parameter in localizer.network.parameters())


def test_folding_the_batch_norms_changes_no_answer(lived_in, image, tmp_path):
    save_file(lived_in.state_dict(), tmp_path / "w.safetensors")
    folded = load_localizer("reference", str(tmp_path / "w.safetensors"))
    for module in folded.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_hook(lambda *called: pytest.fail("a batch norm ran"))
    assert folded.network.state_dict().keys() == lived_in.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(folded.logits(image), lived_in(image), rtol=1e-3, atol=1e-3)
        maps = [*folded.features(image, "shallow"), *folded.features(image, "middle")]
        for ours, theirs in zip(maps, lived_in.skips(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert folded.weights_sha256 == state_sha256(lived_in)


def test_the_embedded_weights_are_small_float32_and_finite():
    assert WEIGHTS.stat().st_size <= 5_000_000
    state = load_file(WEIGHTS)
    assert sum(parameter.numel() for parameter in ReferenceNet().parameters()) <= 1_500_000
    floating = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    assert {value.dtype for value in floating} == {torch.float32}
    assert all(torch.isfinite(value).all() for value in floating)


def test_embedded_weights_are_the_default_and_random_ones_say_so(localizer):
    embedded = load_localizer("reference")
    assert not embedded.untrained and len(embedded.weights_sha256) == 64
    assert localizer.untrained and localizer.weights_sha256 != embedded.weights_sha256
    assert load_localizer("reference", "random").weights_sha256 == localizer.weights_sha256
    assert load_localizer("reference", str(WEIGHTS)).weights_sha256 == embedded.weights_sha256


def test_random_weights_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_localizer("reference", "random")
    assert torch.equal(torch.rand(1), expected)


def test_pytorch_files_open_like_safetensors(lived_in, tmp_path):
    state = lived_in.state_dict()
    torch.save(state, tmp_path / "plain.pt")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "nested.pth")
    save_file(state, tmp_path / "w.safetensors")
    found = {load_localizer("reference", str(path)).weights_sha256 for path in tmp_path.iterdir()}
    assert found == {state_sha256(lived_in)}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.reliability("R7")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
@pytest.mark.parametrize("writer", ["pickle", "torch", "torch-legacy"])
def test_a_pickle_bomb_is_refused_and_does_not_go_off(tmp_path, suffix, writer):
    target, path = tmp_path / "boom", tmp_path / f"weights{suffix}"
    bomb = {"state_dict": {"x": Bomb(target)}}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=writer == "torch")
    told = refusal(path)
    assert not target.exists()
    assert ("cannot be read" if suffix == ".safetensors" else "could run code") in told


@pytest.mark.reliability("R7")
def test_the_bomb_is_live():
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(Bomb("/nowhere/at/all")))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x02.", b"PK\x03\x04" + bytes(40), bytes(999)])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_truncated_checkpoint_is_refused(tmp_path, lived_in, suffix, share):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pt" else save_file)(lived_in.state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    refusal(path)


@pytest.mark.reliability("R7")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda state: state.pop("bayar"),
            r"is of another network: 1 of \d+ keys missing \(bayar\), 0 unexpected$",
        ),
        (lambda state: state.update(more=torch.zeros(1)), r"0 of \d+ keys missing, 1 unexpected \(more\)$"),
        (
            lambda state: state.update(bayar=state["bayar"].long()),
            "bayar is torch.int64, torch.strided on cpu; expected dense torch.float32",
        ),
        (lambda state: state.update(bayar=torch.zeros(3)), r"bayar has shape \(3,\), expected \(4, 3, 24\)"),
        (
            lambda state: state["bayar"].view(-1)[7].fill_(float("nan")),
            "bayar holds NaN, infinite or overflowing values",
        ),
        (lambda state: state["bayar"].fill_(float("inf")), "bayar holds NaN, infinite or overflowing values"),
        (lambda state: state.update({3: torch.zeros(1)}), "holds no state dict of tensors; found bayar, "),
        (lambda state: state.update(x="text"), "holds no state dict of tensors; found "),
        (
            lambda state: state.update(bayar=state["bayar"].to_sparse()),
            "torch.sparse_coo on cpu; expected dense",
        ),
        (lambda state: state.update(bayar=state["bayar"].to("meta")), "on meta; expected dense"),
        (lambda state: state.update(bayar=state["bayar"].double().fill_(1e300)), "overflowing"),
        (lambda state: state["stages.0.0.1.running_var"].fill_(-1), "holds negative variances"),
    ],
)
def test_weights_of_another_network_are_refused_by_their_first_fault(tmp_path, lived_in, change, told):
    state = dict(lived_in.state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=told):
        load_localizer("reference", str(tmp_path / "w.pt"))


def test_a_missing_checkpoint_or_name_is_answered_before_torch_is_needed(tmp_path):
    assert "does not exist; give the path of a file" in refusal(tmp_path / "none.pt")
    assert "does not exist" in refusal(tmp_path)
    with pytest.raises(
        UsageError, match=r"localizer 'mvs' is unknown; did you mean mvss.* known localizers: reference, code"
    ):
        require_localizer("mvs", None)
    with pytest.raises(UsageError, match="resolution must be official or input; found 'big'"):
        load_localizer("reference", resolution="big")
    for device in ("toaster", "meta", "cuda:99"):
        with pytest.raises(UsageError, match=f"device '{device}' cannot be used"):
            load_localizer("reference", device=device)


@pytest.mark.parametrize("name", resource_json("localizers"))
def test_a_published_localizer_says_where_its_weights_are_and_what_needs_none(name):
    assert set(list_localizers()) == {"reference", *resource_json("localizers"), "MODULE:FUNCTION"}
    with pytest.raises(UsageError) as problem:
        load_localizer(name)
    row = resource_json("localizers")[name]
    told = ("--checkpoint PATH", f"`afbench weights add {name} PATH`", "`--checkpoint random` runs untrained")
    for part in (row["file"], row["where"], *told, "`--localizer reference` needs nothing"):
        assert part in str(problem.value)
    assert f"weights: {row['file']}, {row['where']}" in list_localizers()[name]


def test_the_word_for_untrained_weights_is_spelled_in_one_place():
    package = Path(afbench.__file__).parent
    spelled = [
        path.relative_to(package).as_posix()
        for path in sorted(package.rglob("*.py"))
        if any(
            isinstance(node, ast.Constant) and node.value == "random"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert spelled == ["localizers/untrained.py", "naming.py"]  # there a name of noise
    assert is_untrained("random") and not is_untrained(Path("random")) and not is_untrained(None)
