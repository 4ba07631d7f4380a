"""The module: its arithmetic, sizes, encoders, and what gradients reach."""

import pytest
import torch
from torch.nn import functional as F

from afbench.core import UsageError
from afbench.defences.ansm.encoders import build_encoder
from afbench.defences.ansm.module import Ansm
from afbench.defences.padding import pad, pad_to
from afbench.localizers.nets.reference_net import z_score


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Ansm("small").eval()
    torch.nn.init.normal_(network.sign[3].weight, std=0.2)  # it starts at 0
    return network


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_noise_is_the_product_of_the_heads_and_the_sum_is_truncated(network):
    with torch.no_grad():
        picture = image(2, 3, 32, 64)
        features = network.decoder(network.encoder(picture))
        sign, size = F.softsign(network.sign(features)), torch.sigmoid(network.size(features))
        assert -1 < sign.min() < 0 < sign.max() < 1 and size.min() > 0 and size.max() < 1
        assert torch.equal(network.noise(picture), sign * size)
        assert torch.equal(network(picture), (picture + sign * size).clamp(0, 1))
        assert (picture + sign * size).min() < 0, "nothing to truncate"


def test_a_new_module_leaves_an_image_alone():
    picture = image(1, 3, 32, 32)
    assert torch.equal(Ansm("small").eval()(picture), picture)


@pytest.mark.parametrize("size", [(32, 32), (45, 70), (7, 3), (1, 1), (128, 33)])
def test_any_size_comes_back_as_it_went_in(network, size):
    picture = image(1, 3, *size)
    with torch.no_grad():
        found = network(picture)
    assert found.shape == picture.shape and found.min() >= 0 and found.max() <= 1


def test_padding_reflects_and_leaves_the_image_in_its_corner():
    picture = image(1, 3, 30, 40)
    padded = pad(picture, 32)
    assert padded.shape == (1, 3, 32, 64)
    assert torch.equal(padded[..., :30, :40], picture)
    assert torch.equal(padded[..., 30, :40], picture[..., 28, :])
    assert pad_to(image(1, 3, 2, 1), 9, 5).shape == (1, 3, 9, 5)


def test_an_image_does_not_depend_on_its_batch(network):
    batch = image(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(network(batch)[1:2], network(batch[1:2]), atol=1e-6)


def test_gradients_reach_the_image_and_every_weight(network):
    picture = image(1, 3, 32, 32).requires_grad_()
    network.train()(picture).sum().backward()
    assert picture.grad is not None and picture.grad.abs().sum() > 0
    silent = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert silent == []


def test_the_full_size_network_has_the_published_taps_and_20_2_million_parameters():
    pytest.importorskip("timm")
    network = Ansm("efficientnet_b4")
    assert network.encoder.feature_shape.channels == (24, 32, 56, 160, 448)
    assert network.encoder.feature_shape.reductions == (2, 4, 8, 16, 32)
    assert network.decoder.joins == [16, 8, 4, 2, 1]
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(20.2e6, rel=0.005)
    assert [type(block).__name__ for block in network.decoder.fuse] == ["Sequential"] * 4 + ["Identity"]


def test_the_small_network_reaches_every_scale_and_stays_small():
    network = Ansm("small")
    maps = network.encoder(image(1, 3, 32, 48))
    assert [tuple(one.shape[1:]) for one in maps] == [(16, 32, 48), (32, 16, 24), (48, 8, 12), (64, 4, 6)]
    assert network.decoder(maps).shape == (1, 16, 32, 48)
    assert 0.2e6 < sum(weight.numel() for weight in network.parameters()) < 0.3e6


def test_a_z_score_is_that_of_each_channel_of_each_image():
    features = 3 + 5 * image(2, 4, 8, 8)
    found = z_score(features)
    assert torch.allclose(found.mean(dim=(2, 3)), torch.zeros(2, 4), atol=1e-5)
    assert torch.allclose(found.std(dim=(2, 3), correction=0), torch.ones(2, 4), atol=1e-3)


def test_encoder_weights_of_a_classifier_fill_the_encoder_alone(tmp_path):
    timm = pytest.importorskip("timm")
    whole = timm.create_model("resnet18", pretrained=False)
    torch.save(whole.state_dict(), tmp_path / "whole.pt")
    encoder = build_encoder("resnet18", str(tmp_path / "whole.pt"))
    assert torch.equal(encoder.network.state_dict()["conv1.weight"], whole.state_dict()["conv1.weight"])


@pytest.mark.parametrize(
    ("name", "weights", "told"),
    [
        ("small", "imagenet", "has no ImageNet weights"),
        ("small", "nowhere.pt", "do not exist"),
        ("resnet19", "none", "unknown to timm"),
        ("vit_tiny_patch16_224", "none", "feature maps"),
        ("resnet18", "damaged.safetensors", "cannot be read"),
        ("resnet18", "code.pt", "cannot be read"),
        ("resnet18", "other.pt", "keys missing"),
    ],
)
def test_an_encoder_that_cannot_be_had_is_one_line(tmp_path, monkeypatch, name, weights, told):
    import pickle
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.safetensors").write_bytes(b"no header")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(Path))
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "other.pt")
    if name != "small":
        pytest.importorskip("timm")
    with pytest.raises(UsageError, match=told) as problem:
        build_encoder(name, weights)
    assert "\n" not in str(problem.value)


def test_imagenet_weights_without_a_network_name_the_way_out(monkeypatch):
    timm = pytest.importorskip("timm")

    def offline(*arguments, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UsageError, match=r"cannot be downloaded .*unreachable.*--encoder-weights PATH"):
        build_encoder("resnet18", "imagenet")
