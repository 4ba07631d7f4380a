"""The size a module sees: in use the one it was trained at, the image's own or the localizer's, or it is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import replace_settings
from afbench.defences.ansm.train import batch_rules
from afbench.defences.defended_localizer import DefendedLocalizer
from afbench.defences.purifier import Resize, require_owner
from afbench.defences.training.batches import training_batches, validation_batches
from afbench.defences.training.pairs import Share
from afbench.defences.training.single_stage import Schedule
from afbench.defences.training.weights_file import read_tensors
from afbench.engine import localize
from afbench.localizers.published import NetworkRecipe, PublishedLocalizer, as_is, call, sigmoid
from afbench.workflows.training.image_sizes import sized_for

SIDE = 48


def resizing(antialias: bool, side: int | None = SIDE) -> PublishedLocalizer:
    """A localizer of one convolution that resizes as published ones do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Conv2d(3, 1, 5, padding=2).requires_grad_(False)
    recipe = NetworkRecipe(
        network=lambda: network,
        answer=call,
        logits=as_is,
        probability=sigmoid,
        side=side,
        thirds={},
        antialias=antialias,
    )
    return PublishedLocalizer("tiny", recipe, network, "0" * 64, False, "official")


def rewritten(path: Path, *, zero: bool = False, **settings) -> None:
    """Change the settings that a checkpoint records; with ``zero`` its module leaves images as they are."""
    tensors, header = read_tensors(path)
    header["settings"].update(settings)
    if zero:
        tensors = {
            name: torch.zeros_like(value) if name.startswith("sign.3") else value
            for name, value in tensors.items()
        }
    save_file(tensors, path, metadata={"afbench": json.dumps(header)})


def seen_in_use(folder, image):
    """What the module of a checkpoint is given of an image, and what it makes of it."""
    defence, seen = load_defence(f"ansm:{folder}", localizer="tiny"), []
    defence.network.register_forward_pre_hook(lambda network, arguments: seen.append(arguments[0]))
    return seen, defence.apply(image)


@pytest.mark.parametrize("fit", ["resize", "resize-antialiased"])
def test_a_module_trained_on_resized_images_sees_the_same_in_use(run, pairs, tiny, tmp_path, fit):
    run(tmp_path / "out", loss="pwr", epochs=(1, 1), fit=fit, side=32)
    settings = tiny(fit=fit, side=32)
    (batch,) = validation_batches(pairs, [3], batch_rules(settings, 0), share=Share(), workers=0)
    ((seen,), purified) = seen_in_use(tmp_path / "out", pairs[3]["adversarial"][None])
    assert torch.equal(seen, batch.attacked) and purified.shape == (1, 3, 32, 32)
    defence = load_defence(f"ansm:{tmp_path / 'out'}", localizer="tiny")
    assert defence.resize == Resize(32, fit != "resize") and defence.params["size"] == str(defence.resize)


def test_a_module_trained_on_crops_sees_images_at_their_own_size(run, pairs, tiny, tmp_path):
    run(tmp_path / "out", loss="pwr", epochs=(1, 1))
    image = pairs[3]["adversarial"][None]
    ((seen,), purified) = seen_in_use(tmp_path / "out", image)
    assert torch.equal(seen, image) and purified.shape == image.shape
    settings = tiny(augment=())
    (batch,) = training_batches(
        pairs, [3], batch_rules(settings, 0), epoch=0, share=Share(), first=0, workers=0
    )
    windows = [image[..., top : top + 32, left : left + 32] for top in (0, 8) for left in (0, 8)]
    assert any(
        torch.equal(window, batch.attacked) for window in windows if window.shape == batch.attacked.shape
    )
    defence = load_defence(f"ansm:{tmp_path / 'out'}", localizer="tiny")
    assert defence.resize is None and "size" not in defence.params


@pytest.mark.parametrize("antialias", [False, True])
def test_masks_behind_a_module_that_changes_nothing_are_the_bare_localizers(trained, antialias):
    fit = "resize-antialiased" if antialias else "resize"
    rewritten(trained / "best.safetensors", zero=True, fit=fit, side=SIDE)
    localizer, defence = resizing(antialias), load_defence(f"ansm:{trained}", localizer="tiny")
    image = torch.rand(2, 3, 61, 45, generator=torch.Generator().manual_seed(0))
    defended = DefendedLocalizer(localizer, defence)
    assert torch.equal(defended.logits(image), localizer.logits(image))
    assert torch.equal(defended.probability(image), localizer.probability(image))
    both = defended.probability_and_logits(image), localizer.probability_and_logits(image)
    assert all(torch.equal(*pair) for pair in zip(*both, strict=True))
    picture = np.random.default_rng(0).integers(0, 256, (61, 45, 3), np.uint8)
    ((_, bare, _),) = localize(
        localizer, [picture], defence=lambda image: image, batch_size=None, device="cpu"
    )
    ((_, behind, _),) = localize(localizer, [picture], defence=defence.apply, batch_size=None, device="cpu")
    assert np.array_equal(bare, behind) and behind.shape == (61, 45)


def test_an_attack_looks_through_the_resize_and_the_module(trained):
    rewritten(trained / "best.safetensors", fit="resize", side=SIDE)
    defence = load_defence(f"ansm:{trained}", localizer="tiny")
    image = torch.rand(1, 3, 61, 45).requires_grad_()
    logits = DefendedLocalizer(resizing(False), defence).logits(image)
    assert logits.shape == (1, 1, 61, 45)
    (gradient,) = torch.autograd.grad(logits.sum(), image)
    assert gradient.abs().sum() > 0


def test_a_checkpoint_from_before_the_rule_is_what_it_was_trained_as(trained):
    for fit, resize in (("crop", None), ("resize", Resize(512, False))):
        rewritten(trained / "best.safetensors", fit=fit, side=512)
        assert load_defence(f"ansm:{trained}", localizer="tiny").resize == resize
    assert load_defence("ansm", localizer="reference").resize is None, "what ships was trained on crops"


def test_a_localizer_of_another_size_than_the_training_is_refused(trained):
    rewritten(trained / "best.safetensors", fit="resize", side=32)
    defence = replace(load_defence(f"ansm:{trained}", localizer="tiny"), owner_sha256="")
    told = r"was trained on images resized to 32x32, bilinear, but 'tiny' sees them at 48x48; train .* --resize 48"
    with pytest.raises(UsageError, match=told) as problem:
        require_owner(defence, resizing(False))
    assert "\n" not in str(problem.value)
    require_owner(defence, resizing(False, side=32))
    require_owner(defence, resizing(False, side=None))  # takes the resized image as it is


@pytest.mark.parametrize("side", [0, -1, 10**9, 3.5, "32", None, True])
def test_a_damaged_size_is_one_line(trained, side):
    rewritten(trained / "best.safetensors", fit="resize", side=side)
    with pytest.raises(UsageError, match="is damaged"):
        load_defence(f"ansm:{trained}", localizer="tiny")
    rewritten(trained / "best.safetensors", fit="stretch", side=32)
    with pytest.raises(UsageError, match="is damaged: its images had fit 'stretch'"):
        load_defence(f"ansm:{trained}", localizer="tiny")


@pytest.mark.parametrize(
    "settings", [replace_settings(preset("paper", "mvss"), {"side": SIDE}), Schedule(fit="resize", side=SIDE)]
)
def test_a_training_resizes_as_its_localizer_does(settings):
    assert sized_for(settings, resizing(False)).fit == "resize"
    assert sized_for(settings, resizing(True)).fit == "resize-antialiased"
    assert sized_for(settings, resizing(False, side=None)).fit == "resize"
    cropped = replace(settings, fit="crop")
    assert sized_for(cropped, resizing(True)) == cropped
    with pytest.raises(
        UsageError, match=r"images of 48x48 are not what 'tiny' sees: .* to 32x32; give --resize 32, or"
    ):
        sized_for(settings, resizing(False, side=32))


def test_each_published_localizer_is_trained_at_its_own_size_by_the_papers_preset():
    from afbench.localizers import code, hdfnet, ifosn, mvss

    for name, module in (("mvss", mvss), ("hdfnet", hdfnet), ("code", code), ("ifosn", ifosn)):
        recipe = module.RECIPE
        localizer = PublishedLocalizer(name, recipe, nn.Identity(), "0" * 64, True, "official")
        settings = preset("paper", name)
        assert sized_for(settings, localizer) == settings, name
        assert (settings.fit == "crop") == (recipe.side is None), name


def test_one_side_for_both_stages_of_resized_images():
    with pytest.raises(UsageError, match="--mgr-side goes with --crop"):
        replace_settings(preset("paper", "mvss"), {"mgr_side": 256})
    both = replace_settings(preset("short", "mvss", "find-write"), {"fit": "resize", "side": 512})
    assert (both.side, both.first_side) == (512, None)
