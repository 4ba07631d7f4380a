"""The feature-space purifier: its loss by hand, its perturbation, and which checkpoints are refused."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.defences.nrp import (
    NrpSettings,
    check_nrp,
    feature_distance,
    load_nrp,
    nrp_loss,
    push_features,
    timm_features,
)
from afbench.defences.training.pairs import Batch


def drawn(seed, count=2):
    levels = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(seed))
    return levels / 255


def edges(image):
    return [image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]]


def test_the_distance_of_features_is_relative_and_averaged_over_layers():
    wanted = [torch.full((1, 2, 3, 3), 4.0), torch.full((1, 1, 2, 2), -0.5)]
    found = [torch.full((1, 2, 3, 3), 5.0), torch.full((1, 1, 2, 2), 0.5)]
    torch.testing.assert_close(feature_distance(found, wanted), torch.tensor([(1 / 4 + 2) / 2]))
    assert feature_distance(wanted, wanted).item() == 0


def test_pushing_features_stays_in_its_ball_and_goes_farther_than_noise():
    image, phi = drawn(0), torch.tensor([2 / 255, 4 / 255])[:, None, None, None]
    moved = [
        push_features(edges, image, phi=phi, steps=steps, generator=torch.Generator().manual_seed(1))
        for steps in (4, 4)
    ]
    assert torch.equal(*moved)
    apart = (moved[0] - image).abs()
    assert (apart <= phi + 1e-6).all()
    assert apart.amax((1, 2, 3)).tolist() == pytest.approx([2 / 255, 4 / 255], rel=1e-4)
    assert torch.allclose(moved[0] * 255, (moved[0] * 255).round(), atol=1e-4)
    noise = (image + phi * torch.randn(image.shape, generator=torch.Generator().manual_seed(2)).sign()).clamp(
        0, 1
    )
    wanted = edges(image)
    far, near = (feature_distance(edges(one), wanted) for one in (moved[0], noise))
    assert (far > 1.2 * near).all()


def test_the_loss_is_nothing_for_a_purifier_that_gives_the_original_back():
    original = drawn(0)
    batch = Batch(original, (original + 0.05).clamp(0, 1), torch.zeros(2, 1, 32, 32))

    def perfect(image):
        return torch.cat([original, original])

    for perturbation in ("feature", "benchmark"):
        settings = NrpSettings(perturbation=perturbation)
        losses = [
            nrp_loss(purify, edges, batch, settings, torch.Generator().manual_seed(0))
            for purify in (perfect, lambda image: image)
        ]
        assert losses[0].shape == (2,) and losses[0].abs().max() == 0
        assert (losses[1] > 0).all()


def test_the_loss_counts_pixels_as_it_is_told_and_labels_never():
    original = drawn(0)
    batch = Batch(original, (original + 0.05).clamp(0, 1), torch.zeros(2, 1, 32, 32))

    def loss(pixels, images=batch):
        settings = NrpSettings(perturbation="benchmark", pixels=pixels)
        return nrp_loss(lambda image: image, edges, images, settings, torch.Generator())

    moved = (batch.attacked - original).abs().mean((1, 2, 3))
    torch.testing.assert_close(loss(2.0) - loss(0.0), moved)
    assert torch.equal(loss(1.0), loss(1.0, batch._replace(mask=torch.ones(2, 1, 32, 32))))


def test_features_of_a_timm_network_belong_to_no_localizer():
    pytest.importorskip("timm")
    features = timm_features(NrpSettings(features="resnet18", feature_weights="none"), torch.device("cpu"))
    assert [one.shape[-1] for one in features(drawn(0))] == [8, 4]


@pytest.mark.parametrize(
    "given", [{"phi": 0.0}, {"phi": 0.5}, {"steps": 0}, {"pixels": -1.0}, {"perturbation": "x"}]
)
def test_values_that_cannot_be_are_refused(given):
    with pytest.raises(UsageError, match=next(iter(given))):
        check_nrp(NrpSettings(**given))


def rewritten(source, target, change):
    with safe_open(source, framework="pt") as stream:
        card = json.loads(stream.metadata()["afbench"])
    state = load_file(source)
    change(state, card)
    save_file(state, target, metadata={"afbench": json.dumps(card)})
    return target


def test_a_checkpoint_belongs_to_the_localizer_whose_features_it_learned(nrp_checkpoint, tmp_path):
    with pytest.raises(UsageError, match="features of localizer 'reference', not of 'mvss'"):
        load_nrp(nrp_checkpoint, localizer="mvss")
    free = rewritten(
        nrp_checkpoint, tmp_path / "a", lambda state, card: card["settings"].update(features="resnet18")
    )
    assert load_nrp(free, localizer="mvss").params["features"] == "resnet18"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda state, card: state.pop("encoder.levels.0.0.weight"),
            "checkpoint .* is of another network: 1 of .* keys missing",
        ),
        (lambda state, card: card.update(format="afbench-ansm-1"), "is no NRP checkpoint"),
        (lambda state, card: card.pop("data"), "its header is not complete"),
        (lambda state, card: state["encoder.levels.0.0.weight"].fill_(float("nan")), "NaN"),
    ],
)
def test_what_is_no_checkpoint_is_refused(nrp_checkpoint, tmp_path, change, told):
    with pytest.raises(UsageError, match=told):
        load_nrp(rewritten(nrp_checkpoint, tmp_path / "a.safetensors", change), localizer="reference")
    with pytest.raises(UsageError, match=r"NRP checkpoint .* does not exist"):
        load_nrp(tmp_path / "none", localizer="reference")


def test_it_is_a_defence_that_tells_its_weights_apart(nrp_checkpoint):
    defence = load_defence(f"nrp:{nrp_checkpoint.parent}", localizer="reference")
    assert defence.label == f"nrp-{defence.weights_sha256[:6]}" and defence.gradient == "exact"
    assert defence.params == {"features": "localizer", "depth": "middle", "perturbation": "feature"}
    assert defence.trained_on == ()  # of originals alone
    with pytest.raises(UsageError, match="say which"):
        load_defence(f"nrp:{nrp_checkpoint}")
