"""``afbench train ansm`` from end to end, and what it refuses in one line."""

import json
import shlex
import shutil
import sys

import pytest

from afbench.defences.ansm.checkpoint import load_ansm

SMALL = ("--crop", "32", "--batch-size", "2", "--epochs", "1", "1", "--validation", "0.3")


def options(folder, **given):
    told = {"--data": folder, "--localizer": "reference", "--out": "trained", "--preset": "short"} | given
    return [part for name, value in told.items() for part in (name, str(value))]


@pytest.fixture
def alike(made, tmp_path):
    """A copy of the benchmark of random weights, to change."""
    return shutil.copytree(made.folder, tmp_path / "copy")


def test_a_benchmark_gives_a_module_for_its_localizer(afbench, made, tmp_path):
    ran = afbench("train", "ansm", *options(made.folder), *SMALL, "--json")
    assert ran.code == 0, ran.err
    card = json.loads(ran.out)
    assert card["data"]["configs"] == ["reference-fgsm-3"] and card["data"]["pairs"] == 7
    assert card["settings"]["epochs"] == [1, 1] and card["stage"] == "mgr" and len(card["layers"]) == 2
    assert "ffa 1/1: loss" in ran.err and "mgr 1/1: loss" in ran.err
    network = load_ansm(tmp_path / "trained", localizer="reference", device="cpu")
    assert network.card["localizer"]["weights_sha256"] == card["localizer"]["weights_sha256"]
    again = afbench("train", "ansm", *options(made.folder), *SMALL)
    assert again.code == 0 and "loss" not in again.err and "--defence ansm:trained" in again.out


def test_the_example_of_the_help_trains(afbench, made):
    arguments = shlex.split(afbench("train", "ansm", "--help").out.rpartition("Example: ")[2])
    assert arguments[:3] == ["afbench", "train", "ansm"]
    arguments[arguments.index("afbench-out/train")] = str(made.folder)
    ran = afbench(*arguments[1:], *SMALL, "--loss", "pwr")
    assert ran.code == 0 and "best of pwr: validation loss" in ran.out


def test_a_group_of_configs_trains_on_all_of_them(afbench, made):
    ran = afbench(
        "train",
        "ansm",
        *options(made.folder, **{"--config": "reference-fgsm"}),
        *SMALL,
        "--loss",
        "pwr",
        "--json",
    )
    card = json.loads(ran.out)
    assert card["data"]["configs"] == ["reference-fgsm-1", "reference-fgsm-3"] and card["data"]["pairs"] == 14


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"--localizer": "mvss"}, "was not made against 'mvss' but against reference"),
        ({"--localizer": "reference", "--config": "clean"}, "config 'clean' of"),
        ({"--config": "reference-pgd-1"}, "config 'reference-pgd-1' is not in"),
        ({"--data": "nowhere"}, "'nowhere' is no benchmark"),
        ({"--encoder": "resnet19", "--encoder-weights": "none"}, "encoder 'resnet19' is unknown to timm"),
        ({"--encoder-weights": "imagenet"}, "encoder 'small' has no ImageNet weights"),
        ({"--encoder-weights": "nowhere.pt"}, "do not exist"),
        ({"--crop": "32", "--resize": "32"}, "--crop and --resize exclude one another"),
        ({"--crop": "3"}, "side cannot be 3; expected 32 pixels or more"),
        ({"--validation": "0.99"}, "leaves nothing to train on"),
        ({"--device": "toaster"}, "device 'toaster' cannot be used"),
        ({"--out": "file"}, "--out 'file' is a file"),
        ({"--out": "full"}, "--out 'full' holds something that is no training"),
        ({"--depth": "bottom"}, "'bottom' is not one of"),
    ],
)
def test_what_cannot_be_trained_is_one_line(afbench, made, tmp_path, more, told):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    ran = afbench("train", "ansm", *options(made.folder, **more))
    errors = [line for line in ran.err.splitlines() if line.startswith("afbench: error: ")]
    assert ran.code == 2 and len(errors) == 1 and told in errors[0], ran.err
    assert "Traceback" not in ran.err


def test_a_benchmark_without_originals_is_one_line(afbench, alike):
    (alike / "manifests" / "clean.json").unlink()
    ran = afbench("train", "ansm", *options(alike), *SMALL)
    assert ran.code in (1, 2) and "clean" in ran.err and "Traceback" not in ran.err


def test_other_weights_than_were_attacked_are_refused(afbench, alike):
    for path in (alike / "manifests").glob("reference-*.json"):
        manifest = json.loads(path.read_text())
        manifest["how"]["localizer"]["weights_sha256"] = "0" * 64
        path.write_text(json.dumps(manifest))
    ran = afbench("train", "ansm", *options(alike), *SMALL)
    assert ran.code == 2 and "attacked weights 000000000000 of 'reference'" in ran.err


SIZED_NET = """
import torch
from torch import nn
from torch.nn import functional as F


class SizedNet:
    name, threshold, weights_sha256, side = "sizednet", 0.5, "1" * 64, 64

    def logits(self, image):
        sized = F.interpolate(image, (64, 64), mode="bilinear")
        logits = 40 * (sized.mean(1, keepdim=True) - F.avg_pool2d(sized, 3, 1, 1).mean(1, keepdim=True))
        return F.interpolate(logits, image.shape[-2:], mode="bilinear")

    def probability(self, image):
        return torch.sigmoid(self.logits(image))


def build(checkpoint, device):
    return SizedNet()
"""


def test_a_module_is_trained_and_used_at_the_size_of_a_localizer_that_resizes(afbench, photographs, tmp_path):
    (tmp_path / "sized_net.py").write_text(SIZED_NET)
    name = ("--localizer", "sized_net:build")
    attack = (*name, "--source", f"folder:{photographs}", "--attack", "fgsm", "--phi", "3/255", "--out", "B")
    assert afbench("generate", *attack).code == 0
    small = "--encoder small --encoder-weights none --loss pwr --epochs 1 1 --batch-size 2 --validation 0"
    train = ("train", "ansm", "--data", "B", *name, "--out", "trained", *small.split())
    ran = afbench(*train, "--resize", "32")
    told = "images of 32x32 are not what 'sizednet' sees: it would resize them once more, to 64x64; give --resize 64"
    assert ran.code == 2 and told in ran.err and "Traceback" not in ran.err
    assert not (tmp_path / "trained").exists()
    ran = afbench(*train, "--resize", "64", "--json")
    assert ran.code == 0, ran.err
    settings = json.loads(ran.out)["settings"]
    assert (settings["fit"], settings["side"]) == ("resize", 64)
    defence = ("--defence", "ansm:trained")
    assert afbench("predict", "--data", "B", *name, *defence, "--out", "sub").code == 0
    manifest = json.loads((tmp_path / "sub" / "manifest.json").read_text())
    assert manifest["defence"]["params"]["size"] == "64x64, bilinear"
    assert afbench("score", "sub", "--data", "B", "--validate-only").code == 0
    assert afbench("generate", *attack, "--through-defence", "ansm:trained").code == 0
    ran = afbench("evaluate", "--data", "B", *name, *defence, "--out", "evaluation")
    assert ran.code == 0 and "adaptive" in ran.out, ran.err
    assert "was trained on images attacked" not in ran.err
    assert afbench("generate", *attack[:-1], "M", "--attack-at", "model").code == 0
    told = "was trained on images attacked at native size, and these were attacked at model size"
    ran = afbench("evaluate", "--data", "M", *name, *defence)
    assert ran.code == 0 and told in ran.err
    ran = afbench("predict", "--data", "M", *name, *defence, "--out", "other-size", "--json")
    assert ran.code == 0 and told in ran.err and told in json.loads(ran.out)["warnings"][0]
    (tmp_path / "sized_net.py").write_text(SIZED_NET.replace("* 64, 64", "* 64, 96"))
    sys.modules.pop("sized_net")
    for command in (("predict", *defence, "--out", "other"), ("evaluate", *defence)):
        ran = afbench(command[0], "--data", "B", *name, *command[1:])
        assert ran.code == 2 and "'sizednet' sees them at 96x96; train one" in ran.err, ran.err
    sys.modules.pop("sized_net")
