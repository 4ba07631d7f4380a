"""What stands between an image and a published network: resize, padding, thresholds, features."""

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from fill import GAIN
from PIL import Image
from tiled import tiled_network
from torch import nn

from afbench import check_localizer, load_localizer
from afbench.localizers import why_imprecise
from afbench.localizers.load import recipe
from afbench.localizers.nets import pscc_net
from afbench.localizers.published import PublishedLocalizer

RESIZED = {"mvss": 512, "hdfnet": 256, "code": 512, "mesorch": 512}
SIZES = {
    "mvss": (32, 48),
    "ifosn": (32, 48),
    "hdfnet": (64, 64),
    "code": (32, 64),
    "pscc": (16, 24),
    "mesorch": (32, 64),
    "imlvit": (32, 48),
    "trufor": (29, 40),
}
"""Legal without a resize, and quick."""

one_for_each = pytest.mark.parametrize("name", GAIN)


class StandIn(nn.Module):
    """Keeps what it is given, and says a sum of it from -0.5 to 1.5, as CoDE's network does."""

    def forward(self, image):
        self.seen = image
        return 2 * image.mean(dim=1, keepdim=True) - 0.5

    running_sum = forward


def stand_in(name, resolution="official"):
    """A localizer that does everything but compute a network."""
    return PublishedLocalizer(name, recipe(name), StandIn(), "0" * 64, True, resolution)


def random_image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def untrained():
    """Of the last name asked for: two of the big ones do not fit beside each other, and take seconds to draw."""
    held = {}

    def load(name, resolution="input"):
        if (name, resolution) not in held:
            held.clear()
            if name in ("hdfnet", "code"):
                held[name, resolution] = load_localizer(name, "random", resolution=resolution)
            else:
                network = tiled_network(name)
                recipe(name).settle(network)
                held[name, resolution] = PublishedLocalizer(
                    name, recipe(name), network, "0" * 64, True, resolution
                )
        return held[name, resolution]

    return load


@pytest.mark.parametrize("size", [(1, 1), (7, 33), (128, 96), (512, 512), (600, 40), (895, 17)])
@pytest.mark.parametrize("name", GAIN)
def test_any_image_gets_logits_and_probabilities_of_its_size(name, size):
    localizer, image = stand_in(name), random_image(2, 3, *size)
    logits, probability = localizer.logits(image), localizer.probability(image)
    assert logits.shape == probability.shape == (2, 1, *size)
    assert probability.min() >= 0 and probability.max() <= 1
    both = localizer.probability_and_logits(image)
    assert torch.equal(both[0], probability) and torch.equal(both[1], logits)


@pytest.mark.parametrize(("name", "side"), RESIZED.items())
def test_the_network_sees_the_authors_square(name, side):
    localizer = stand_in(name)
    for size in ((20, 30), (700, 1000), (side, side)):
        localizer.logits(random_image(1, 3, *size))
        assert localizer.network.seen.shape == (1, 3, side, side)
    assert localizer.side == side and stand_in(name, "input").side is None


@pytest.mark.parametrize("name", ["ifosn", "pscc", "trufor"])
@pytest.mark.parametrize("resolution", ["official", "input"])
def test_what_takes_any_size_is_given_the_image_itself(name, resolution):
    localizer, image = stand_in(name, resolution), random_image(1, 3, 47, 101)
    localizer.logits(image)
    assert torch.equal(localizer.network.seen, image) and localizer.side is None


def test_an_image_of_the_authors_size_is_not_touched():
    for name, side in RESIZED.items():
        localizer, image = stand_in(name), random_image(1, 3, side, side)
        localizer.logits(image)
        assert torch.equal(localizer.network.seen, image)


def test_hdfnet_takes_any_image_in_its_official_resolution(untrained):
    with torch.no_grad():
        probability, logits = untrained("hdfnet", "official").probability_and_logits(
            random_image(1, 3, 61, 300)
        )
    assert probability.shape == logits.shape == (1, 1, 61, 300)
    assert torch.equal(probability > 0.5, logits > 0)


@pytest.mark.slow
def test_code_takes_any_image_in_its_official_resolution(untrained):
    with torch.no_grad():
        probability, logits = untrained("code", "official").probability_and_logits(
            random_image(1, 3, 61, 300)
        )
    assert probability.shape == logits.shape == (1, 1, 61, 300)
    assert torch.isfinite(logits).all() and probability.min() >= 0 and probability.max() <= 1


@pytest.mark.parametrize("name", ["mvss", "hdfnet", "code", "pscc", "mesorch"])
@pytest.mark.parametrize("size", [(512, 512), (1024, 1536), (700, 1000), (300, 2048), (1537, 511), (256, 30)])
def test_pixels_never_read_are_those_without_a_gradient(name, size):
    localizer, image = stand_in(name), random_image(1, 3, *size).requires_grad_()
    logits = localizer.logits(image)
    read = localizer.network.seen if localizer.side else logits
    (slope,) = torch.autograd.grad(read.sum(), image)
    unread = int((slope == 0).all(dim=1).sum())
    assert localizer.unread_pixels(*size) == unread
    assert (unread > 0) == (name in ("mvss", "code", "mesorch") and max(size) > 2 * 512)
    assert stand_in(name, "input").unread_pixels(*size) == 0


@pytest.mark.parametrize("size", [(30, 40), (1024, 1024), (1100, 50), (1030, 1040)])
def test_imlvit_lays_an_image_into_a_black_square_and_cuts_what_lies_beyond(size):
    localizer, image = stand_in("imlvit"), random_image(1, 3, *size).requires_grad_()
    probability, logits = localizer.probability_and_logits(image)
    square = localizer.network.seen
    height, width = (min(side, 1024) for side in size)
    assert localizer.canvas == 1024 and square.shape == (1, 3, 1024, 1024)
    assert torch.equal(square[..., :height, :width], image[..., :height, :width])
    assert int((square != 0).any(dim=1).sum()) <= height * width
    unread = size[0] * size[1] - height * width
    assert localizer.unread_pixels(*size) == unread and stand_in("imlvit", "input").unread_pixels(*size) == 0
    (slope,) = torch.autograd.grad(logits.sum(), image)
    assert int((slope == 0).all(dim=1).sum()) == unread
    beyond = torch.ones(size, dtype=torch.bool)
    beyond[:height, :width] = False
    assert (probability[0, 0][beyond] == 0).all() and (logits[0, 0][beyond] == -20).all()


def test_noise_where_nothing_is_read_changes_nothing():
    localizer, image = stand_in("mvss"), random_image(1, 3, 1536, 700).requires_grad_()
    (slope,) = torch.autograd.grad(localizer.logits(image).sum(), image)
    unread = (slope == 0).all(dim=1, keepdim=True)
    assert int(unread.sum()) == localizer.unread_pixels(1536, 700) > 1536 * 700 // 4
    noisy = torch.where(unread, random_image(1, 3, 1536, 700, seed=1), image.detach())
    assert torch.equal(localizer.logits(noisy), localizer.logits(image.detach()))


@pytest.mark.parametrize("name", RESIZED)
@pytest.mark.parametrize("size", [(128, 96), (700, 1000), (1536, 30), (256, 256), (512, 512)])
def test_fitting_eight_bits_is_the_authors_resize_and_nearly_the_differentiable_one(picture, name, size):
    localizer, image = stand_in(name), picture(*size)
    side = RESIZED[name]
    if name == "hdfnet":
        expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    else:
        expected = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    found = localizer.fit(image)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    assert np.array_equal(localizer.fit(image[..., 0]), expected[..., 0])
    with torch.no_grad():
        localizer.logits(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    exact = 255 * localizer.network.seen[0].permute(1, 2, 0).numpy()
    most = 1.01 if name == "hdfnet" else 0.77  # docs/localizers.md; Pillow rounds after each direction
    assert np.abs(exact - found).max() <= most
    assert stand_in(name, "input").fit(image) is image


@pytest.mark.parametrize("name", ["ifosn", "pscc", "trufor"])
def test_what_resizes_nothing_fits_nothing(picture, name):
    image = picture()
    assert stand_in(name).fit(image) is image


@pytest.mark.parametrize(
    ("name", "size", "padded"),
    [
        ("code", (100, 130), (128, 160)),
        ("code", (64, 32), (64, 32)),
        ("code", (3, 33), (32, 64)),
        ("mesorch", (3, 33), (32, 64)),
        ("imlvit", (3, 33), (32, 48)),
        ("mvss", (5, 90), (16, 90)),
        ("ifosn", (15, 16), (16, 16)),
        ("pscc", (20, 1), (20, 16)),
        ("trufor", (28, 61), (29, 61)),
    ],
)
def test_without_a_resize_an_image_is_padded_below_and_right_by_its_last_pixels(name, size, padded):
    localizer, image = stand_in(name, "input"), random_image(2, 3, *size)
    logits = localizer.logits(image)
    seen, (height, width) = localizer.network.seen, size
    assert seen.shape[-2:] == padded and logits.shape[-2:] == size
    assert torch.equal(seen[..., :height, :width], image)
    assert torch.equal(seen[..., :height, width:], image[..., -1:].expand(-1, -1, -1, padded[1] - width))
    assert torch.equal(
        seen[..., height:, :], seen[..., height - 1 : height, :].expand_as(seen[..., height:, :])
    )


def test_code_takes_sides_that_are_no_multiple_of_32_without_a_resize(untrained):
    image = random_image(1, 3, 50, 70).requires_grad_()
    logits = untrained("code").logits(image)
    (slope,) = torch.autograd.grad(logits.sum(), image)
    assert logits.shape == (1, 1, 50, 70) and (slope != 0).any(dim=1).all()


def test_hdfnet_without_a_resize_refuses_what_it_was_not_made_for(untrained):
    with pytest.raises(ValueError, match="found height 64, width 96; resize"):
        untrained("hdfnet").logits(random_image(1, 3, 64, 96))


@pytest.mark.parametrize("name", GAIN)
def test_thresholds_are_the_published_ones(name):
    localizer = stand_in(name)
    assert localizer.threshold == (0.2 if name == "code" else 0.5)
    assert localizer.logit_threshold == 0.5 and localizer.logit == recipe(name).logit


def test_code_finds_by_logit_what_it_finds_by_map():
    edge = torch.tensor(0.2)
    near = [torch.nextafter(edge, torch.tensor(one)) for one in (-1.0, 1.0)]
    image = random_image(1, 3, 64, 64)
    image[..., 0, :3] = (torch.stack([edge, *near]) + 0.5) / 2
    probability, logits = stand_in("code", "input").probability_and_logits(image)
    assert (probability == 0).sum() > 0 and (probability == 1).sum() > 0
    assert torch.equal(logits > 0, probability > 0.2)
    told = (probability - 0.2).abs() > 1e-6  # nearer, a sigmoid in float32 is 0.5 itself
    assert told.float().mean() > 0.99
    assert torch.equal(torch.sigmoid(logits)[told] > 0.5, probability[told] > 0.2)


def test_the_real_code_network_keeps_that_promise(untrained):
    image = random_image(1, 3, 64, 64)
    localizer = replace(untrained("code"), network=copy.deepcopy(untrained("code").network))
    shares = []
    for _ in range(5):  # random weights alone mark nothing
        localizer.network.mu[7].bias.add_(0.15)
        with torch.no_grad():
            probability, logits = localizer.probability_and_logits(image)
            assert torch.equal(probability, localizer.network(image))
        assert torch.equal(logits > 0, probability > 0.2)
        shares.append(float((logits > 0).float().mean()))
    assert any(0 < share < 1 for share in shares), shares


@one_for_each
def test_features_of_every_third_have_gradients_and_come_in_the_networks_order(untrained, monkeypatch, name):
    monkeypatch.setattr(pscc_net, "GRIDS", (64, 32, 16, 8))  # four times as long a side takes seconds
    localizer = untrained(name)
    image = random_image(1, 3, *SIZES[name]).requires_grad_()
    order = []
    hooks = [
        localizer.network.get_submodule(module).register_forward_hook(
            lambda *_, module=module: order.append(module)
        )
        for third in localizer.recipe.thirds.values()
        for module in third
    ]
    found = {}
    for third, modules in localizer.recipe.thirds.items():
        order.clear()
        found[third] = localizer.features(image, third)
        ran = list(dict.fromkeys(order))
        assert [module for module in ran if module in modules] == list(modules)
        assert found[third] and all(one.shape[0] == 1 for one in found[third])
        total = sum(one.square().mean() for one in found[third])
        (slope,) = torch.autograd.grad(total, image)
        assert torch.isfinite(slope).all() and slope.abs().sum() > 0
    for hook in hooks:
        hook.remove()
    first = {third: ran.index(modules[0]) for third, modules in localizer.recipe.thirds.items()}
    assert first["shallow"] < first["middle"] < first["topmost"]
    with pytest.raises(KeyError):
        localizer.features(image, "deepest")


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("hdfnet", ((32, 32), (64, 64))),
        ("code", ((32, 32), (20, 40))),
    ],
)
def test_untrained_networks_keep_what_attacks_rest_on(untrained, name, sizes):
    findings = list(check_localizer(untrained(name), sizes=sizes, large_sizes=()))
    assert len(findings) == 13 and [one for one in findings if not one.passed] == []
    assert findings[0].detail.startswith(f"{name}, threshold {untrained(name).threshold}")


def test_only_trufor_is_another_network_in_lower_precision():
    for precision in ("tf32", "bf16"):
        assert [name for name in GAIN if why_imprecise(name, precision)] == ["trufor"]
    assert not any(why_imprecise(name, "fp32") for name in (*GAIN, "reference", "my.module:build"))
