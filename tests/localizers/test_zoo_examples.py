"""Networks of other zoos as localizers: the examples that ship, and the recipe of the docs with stand-ins for the zoos."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from afbench import check_localizer, load_localizer

DOC = (Path(__file__).parents[2] / "docs" / "localizers.md").read_text()
SIDE = 96
"""What stands for the recipe's 512, which takes longer."""
SIZES = ((64, 96), (75, 53))
EXAMPLES = ("torchvision_segmentation", "timm_backbone")


def broken(localizer):
    """Names of the promises that a localizer breaks."""
    return [finding.name for finding in check_localizer(localizer, sizes=SIZES) if not finding.passed]


@pytest.mark.parametrize("function", EXAMPLES)
def test_an_example_keeps_every_promise_and_takes_its_own_checkpoint(function, tmp_path):
    name = f"afbench.localizers.examples:{function}"
    localizer = load_localizer(name)
    assert broken(localizer) == []
    assert localizer.weights_sha256 == load_localizer(name).weights_sha256
    for module in localizer.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.add_(0.5)
    path = localizer.save_checkpoint(tmp_path / "weights.pth")
    again = load_localizer(name, str(path))
    image = torch.rand(1, 3, 40, 56)
    assert again.weights_sha256 != localizer.weights_sha256 and torch.equal(
        again.logits(image), localizer.logits(image)
    )


@pytest.mark.parametrize("function", EXAMPLES)
def test_an_example_is_attacked_by_its_name(afbench, function):
    name = f"afbench.localizers.examples:{function}"
    ran = afbench(
        "generate", "--localizer", name, "--attack", "fgsm", "--phi", "1/255", "--limit", "1", "--out", "out"
    )
    assert ran.code == 0, ran.err
    assert f"afbench_localizers_examples_{function}-fgsm-1" in ran.out


def test_an_example_refuses_weights_of_another_network_in_one_line(afbench, tmp_path):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "w.pt")
    ran = afbench("weights", "check", "afbench.localizers.examples:timm_backbone", "--checkpoint", "w.pt")
    assert ran.code == 2 and ran.err.count("\n") == 1 and "'w.pt' is of another network: " in ran.err


class Zoo(nn.Module):
    """What a network of IMDL-BenCo looks like from outside; the others below have a trap each."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Conv2d(3, 1, 5, padding=2)

    def forward(self, image, mask, label, **more):
        logits = self.layers(image)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, mask)
        return {"backward_loss": loss, "pred_mask": torch.sigmoid(logits), "pred_label": None}


class Rebuilt(Zoo):
    def forward(self, image, mask, label, **more):
        self.layers = nn.Conv2d(3, 1, 5, padding=2).requires_grad_(False)
        return super().forward(image, mask, label)


class Detached(Zoo):
    def forward(self, image, mask, label, **more):
        return super().forward(image.detach(), mask, label)


class Coupled(Zoo):
    def forward(self, image, mask, label, **more):
        return super().forward(image - image.mean(), mask, label)


class Cut(Zoo):
    def forward(self, image, mask, label, **more):
        shown = torch.zeros_like(image)
        shown[..., :40, :40] = image[..., :40, :40]
        return super().forward(shown, mask, label)


def recipe_block(zoo):
    """The one block of the docs that imports a zoo."""
    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
        if f"import {zoo}" in block or f"from {zoo}" in block
    ]
    assert len([line for line in block.splitlines() if line]) <= 20
    return block


@pytest.fixture
def benco(monkeypatch):
    """The recipe's ``build`` with a network of the caller's in IMDL-BenCo's registry."""

    def build(network):
        module = ModuleType("IMDLBenCo")
        module.MODELS = SimpleNamespace(get={"SparseViT": network}.get)
        monkeypatch.setitem(sys.modules, "IMDLBenCo", module)
        namespace = {}
        recipe = recipe_block("IMDLBenCo").replace("(512, 512)", f"({SIDE}, {SIDE})")
        exec(compile(recipe, "localizers.md", "exec"), namespace)
        return namespace

    return build


def test_the_recipe_for_imdl_benco_keeps_every_promise_and_gives_the_zoos_probability(benco, tmp_path):
    torch.save({"model": Zoo().state_dict(), "epoch": 3}, tmp_path / "w.pth")
    localizer = benco(Zoo)["build"](str(tmp_path / "w.pth"), "cpu")
    assert broken(localizer) == []
    image = torch.rand(2, 3, SIDE, SIDE)
    normalised = (image - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    expected = Zoo()(normalised, torch.zeros(2, 1, SIDE, SIDE), torch.zeros(2))["pred_mask"]
    torch.testing.assert_close(localizer.probability(image), expected)


@pytest.mark.parametrize(
    ("network", "promise"),
    [
        (Rebuilt, "the same at every call"),
        (Detached, "gradient at the image"),
        (Coupled, "images independent of their batch"),
        (Cut, "no part of a large image hidden"),
    ],
)
def test_a_trap_of_a_zoos_network_is_caught_by_name(benco, network, promise):
    assert promise in broken(benco(network)["build"](None, "cpu"))


def test_the_recipes_own_traps_are_caught_by_name(benco, monkeypatch):
    namespace = benco(Zoo)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "logit", lambda probability, eps: probability)
        assert broken(namespace["build"](None, "cpu")) == ["logits are no probabilities"]
    localizer = namespace["build"](None, "cpu")
    localizer.network.train()
    assert "evaluation mode" in broken(localizer)


class TwoClasses(nn.Module):
    """What TruFor of photoholmes looks like from outside: ``forward`` gives scores of two classes first."""

    def __init__(self, weights=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Conv2d(3, 2, 5, padding=2)

    def forward(self, image):
        return self.layers(image), None, None, None

    @torch.no_grad()
    def predict(self, image):
        return self.forward(image)


def test_the_recipe_for_photoholmes_keeps_every_promise_and_would_not_with_predict(monkeypatch):
    for name in ("photoholmes", "photoholmes.methods", "photoholmes.methods.trufor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["photoholmes.methods.trufor"].TruFor = TwoClasses
    recipe = recipe_block("photoholmes")
    for code, expected in (
        (recipe, []),
        (recipe.replace(".forward(", ".predict("), ["gradient at the image", "gradient at every border"]),
    ):
        namespace = {}
        exec(compile(code, "localizers.md", "exec"), namespace)
        assert broken(namespace["build"](None, "cpu")) == expected
    scores = TwoClasses()(torch.ones(1, 3, 8, 8))[0]
    localizer = namespace["build"](None, "cpu")
    expected = torch.softmax(scores, dim=1)[:, 1:]
    torch.testing.assert_close(localizer.probability(torch.ones(1, 3, 8, 8)), expected)
