"""From a benchmark to hardened weights and a purifier, by the command line, and back under attack."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from afbench import load_localizer
from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.localizers.trainable import load_trainable
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import open_benchmark
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

SHORT = ("--epochs", "1", "--batch-size", "2", "--crop", "32", "--validation", "0.3")


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """Six synthetic forgeries under FGSM at 3/255, of the embedded weights."""
    folder = tmp_path_factory.mktemp("forged") / "out"
    block = Block(
        ("reference",), (SourceSpec("synthetic", None),), tuple(expand_attack("fgsm", phi=["3/255"]))
    )
    generate(RunPlan("test", (block,), limit=6), folder, Options())
    return folder


def train(afbench, kind, data, *arguments):
    return afbench(
        "train", kind, "--data", data, "--localizer", "reference", "--out", "out", *SHORT, *arguments
    )


@pytest.mark.parametrize(
    "arguments",
    [("at",), ("gradient-penalty",), ("both", "--attack", "pgd", "--steps", "2")],
    ids=lambda arguments: arguments[0],
)
def test_hardened_weights_are_a_checkpoint_that_is_attacked_as_any(afbench, tmp_path, forged, arguments):
    ran = train(afbench, "hardened", forged, "--method", *arguments)
    assert ran.code == 0, ran.err
    assert "next: afbench generate --localizer reference --checkpoint" in ran.out
    path = tmp_path / "out" / "best.safetensors"
    card = json.loads((tmp_path / "out" / "best.json").read_text())
    assert card["settings"]["method"] == arguments[0] and card["format"] == "afbench-hardened-1"
    assert card["settings"]["attack"] == ("" if len(arguments) == 1 else "pgd-3-c134a6")
    hardened, embedded = load_localizer("reference", str(path)), load_localizer("reference")
    assert hardened.weights_sha256 != embedded.weights_sha256 == card["localizer"]["weights_sha256"]
    attack = ("--attack", "fgsm", "--phi", "3/255", "--source", "synthetic", "--limit", "1", "--out", "again")
    again = ("--checkpoint", path, "--localizer-name", "reference_hard")
    ran = afbench("generate", "--localizer", "reference", *again, *attack)
    assert ran.code == 0, ran.err
    how = open_benchmark(tmp_path / "again").configs["reference_hard-fgsm-3"].provenance["localizer"]
    assert how["weights_sha256"] == hardened.weights_sha256
    seen = ("--data", "again", "--localizer", "reference", *again)
    ran = afbench("predict", *seen, "--out", "submission")
    assert ran.code == 0, ran.err
    if arguments == ("at",):
        ran = afbench("evaluate", *seen)
        assert ran.code == 0 and "FGSM" in ran.out.upper(), ran.err


def test_a_classifier_is_hardened_from_a_plain_one_and_says_its_accuracy(afbench, tmp_path, forged):
    ran = train(afbench, "hardened", forged, "--task", "classify", "--method", "none", "--json")
    assert ran.code == 0, ran.err
    plain = json.loads(ran.out)
    assert plain["accuracy"]["before"].keys() == {
        "images",
        "original",
        "benchmark",
        "fgsm 3/255",
        "pgd 3/255",
    }
    assert all(0 <= plain["accuracy"]["after"][name] <= 1 for name in ("original", "pgd 3/255"))
    (tmp_path / "out").rename(tmp_path / "plain")
    ran = train(
        afbench, "hardened", forged, "--task", "classify", "--method", "both", "--attack", "fgsm",
        "--checkpoint", tmp_path / "plain",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert "fgsm 3/255: " in ran.out and "next:" not in ran.out
    told = json.loads((tmp_path / "out" / "accuracy.json").read_text())
    assert told["before"] == plain["accuracy"]["after"]


def _listed(folder):
    """Three forged and three authentic images of noise, as options of ``generate``."""
    pairs = []
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4:20, 8:24] = 255
        for kind, content in (("image", pixels), ("mask", mask), ("authentic", 255 - pixels)):
            Image.fromarray(content).save(folder / f"{kind}{number}.png")
        pairs += [[f"image{number}.png", f"mask{number}.png"], [f"authentic{number}.png", "Negative"]]
    (folder / "list.json").write_text(json.dumps(pairs))
    attack = ("--attack", "fgsm", "--phi", "3/255")
    return ("--source", f"list:{folder / 'list.json'}", "--authentic", *attack)


def test_authentic_images_join_a_classifier_of_whole_images(afbench, tmp_path, forged):
    whole = ("--task", "classify", "--method", "none", "--crop", "128")
    ran = train(afbench, "hardened", forged, *whole)
    assert ran.code == 2 and "has no authentic images" in ran.err and ran.err.count("afbench: error") == 1
    ran = afbench("generate", "--localizer", "reference", *_listed(tmp_path), "--out", "made")
    assert ran.code == 0, ran.err
    ran = train(afbench, "hardened", tmp_path / "made", *whole, "--json", "--validation", "0.4")
    assert ran.code == 0, ran.err
    images = json.loads(ran.out)["images"]
    assert images["train"] + images["validation"] == 6


@pytest.mark.parametrize("perturbation", ["feature", "benchmark"])
def test_a_purifier_is_trained_and_stands_before_its_localizer(afbench, tmp_path, forged, perturbation):
    ran = train(afbench, "nrp", forged, "--perturbation", perturbation)
    assert ran.code == 0, ran.err
    defence = load_defence(f"nrp:{tmp_path / 'out'}", localizer="reference")
    assert defence.trained_on == (("reference-fgsm-3",) if perturbation == "benchmark" else ())
    image = torch.rand(1, 3, 40, 40)
    assert defence.apply(image).shape == image.shape
    ran = afbench(
        "predict", "--data", forged, "--localizer", "reference", "--defence", f"nrp:{tmp_path / 'out'}",
        "--out", "submission",
    )  # fmt: skip
    assert ran.code == 0, ran.err


@pytest.mark.parametrize("kind", ["hardened", "nrp"])
def test_data_of_another_localizer_or_other_weights_are_refused(afbench, tmp_path, forged, kind):
    ran = afbench("train", kind, "--data", forged, "--localizer", "mvss", "--out", "out")
    assert ran.code == 2 and "was not made against 'mvss' but against reference" in ran.err
    other = tmp_path / "other.safetensors"
    from safetensors.torch import save_file

    state = load_trainable("reference").network.state_dict()
    state["head.bias"] = state["head.bias"] + 1
    save_file(state, other)
    ran = train(afbench, kind, forged, "--checkpoint", other)
    assert ran.code == 2 and "give --checkpoint" in ran.err and ran.err.count("afbench: error") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--method", "none"), "method none is for --task classify"),
        (("--method", "gradient-penalty", "--attack", "fgsm"), "--attack goes with method at or both"),
        (("--attack", "fsgm"), "attack 'fsgm' is unknown"),
        (("--attack", "cw", "--phi", "50"), "has no phi to train within"),
        (("--attack", "fgsm", "--steps", "3"), "steps"),
        (("--penalty", "-1"), "penalty cannot be"),
        (("--lr", "7"), "lr cannot be"),
        (("--resize", "64"), "exclude one another"),
        (("--config", "clean"), "was not attacked"),
        (("--config", "reference-pgd"), "is not in"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(afbench, tmp_path, forged, arguments, told):
    ran = train(afbench, "hardened", forged, *arguments)
    assert ran.code == 2 and told in ran.err and ran.err.count("afbench: error") == 1, ran.err
    assert not (tmp_path / "out").exists()


def test_a_trainable_localizer_gives_the_logits_of_the_frozen_one():
    image = torch.rand(2, 3, 40, 50)
    trainable, frozen = load_trainable("reference"), load_localizer("reference")
    with torch.no_grad():
        apart = (trainable.localizer.logits(image) - frozen.logits(image)).abs().max()
    assert apart < 1e-3 * frozen.logits(image).abs().max()
    assert trainable.localizer.weights_sha256 == frozen.weights_sha256
    assert all(weight.requires_grad for weight in trainable.network.parameters())


@pytest.mark.parametrize("name", ["hdfnet", "pscc"])
def test_a_published_localizer_takes_back_what_training_gives(tmp_path, name):
    from safetensors.torch import save_file

    trainable = load_trainable(name, "random", resolution="input")
    with torch.no_grad():
        next(iter(trainable.network.parameters())).add_(0.01)
    path = tmp_path / "best.safetensors"
    save_file({key: value.contiguous() for key, value in trainable.network.state_dict().items()}, path)
    assert load_localizer(name, str(path)).weights_sha256 != trainable.localizer.weights_sha256


OWN = """
import afbench, torch
from safetensors.torch import load_file
from torch import nn

def build(checkpoint, device):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 1, 5, padding=2)
    if checkpoint:
        network.load_state_dict(load_file(checkpoint))
    return afbench.as_localizer(network, name="edge", device=device)
"""


def test_a_users_own_localizer_is_hardened_and_takes_its_weights_back(afbench, tmp_path, monkeypatch):
    (tmp_path / "edge_of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = ("--localizer", "edge_of_a_user:build")
    attack = ("--attack", "fgsm", "--phi", "3/255", "--source", "synthetic", "--limit", "6")
    assert afbench("generate", *own, *attack, "--out", "made").code == 0
    ran = afbench("train", "hardened", "--data", "made", *own, "--method", "at", "--out", "out", *SHORT)
    assert ran.code == 0, ran.err
    best = str(tmp_path / "out" / "best.safetensors")
    before, after = (load_localizer("edge_of_a_user:build", one) for one in (None, best))
    assert before.weights_sha256 != after.weights_sha256


def test_a_localizer_without_a_network_cannot_be_trained(tmp_path, monkeypatch):
    (tmp_path / "blind.py").write_text(
        "class Blind:\n    name, threshold, weights_sha256 = 'blind', 0.5, '0' * 64\n"
        "    def logits(self, image): return image[:, :1]\n    probability = logits\n"
        "def build(checkpoint, device): return Blind()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match="shows no network that could be trained"):
        load_trainable("blind:build")


@pytest.mark.parametrize("kind", ["hardened", "nrp"])
def test_the_example_of_the_help_is_a_command_that_runs(afbench, tmp_path, forged, kind):
    import shlex

    told = afbench("train", kind, "--help").out
    arguments = shlex.split(told.rpartition("Example: ")[2])[1:]
    arguments[arguments.index("--data") + 1] = str(forged)
    ran = afbench(*arguments, *SHORT)
    assert ran.code == 0, ran.err
    assert (tmp_path / arguments[arguments.index("--out") + 1] / "best.safetensors").is_file()
