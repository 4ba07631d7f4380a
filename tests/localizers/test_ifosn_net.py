"""IF-OSN's network against what the released one computes under the same weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fill import fill
from tiled import undrawn_network
from torch.nn import functional as F

from afbench.localizers.nets.ifosn_net import IfosnNet

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def network():
    return fill(undrawn_network("ifosn"), "ifosn").double()


@pytest.fixture(scope="module")
def single(network):
    """The same weights in float32, which holds them exactly; built without drawing a second set."""
    with torch.device("meta"):
        copy = IfosnNet()
    state = {name: _narrow(value) for name, value in network.state_dict().items()}
    copy.load_state_dict(state, assign=True)
    return copy.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def published():
    """Name to shape, dtype and the sum of the filled weights."""
    return json.loads((GOLDEN / "ifosn.state.json").read_text())


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "ifosn.npz") as stored:
        return {name: torch.from_numpy(stored[name]).double() for name in stored}


def _narrow(value):
    return value.float() if value.is_floating_point() else value


def _images(*shape, seed=0):
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape))


def _probability_and_slope(network):
    """On the golden input, with the golden target's cross entropy."""
    image = _images(1, 3, 128, 128, seed=101).requires_grad_()
    target = (_images(1, 1, 128, 128, seed=1101) > 0.5).double()
    logits = network(image)
    (slope,) = torch.autograd.grad(F.binary_cross_entropy_with_logits(logits, target), image)
    return torch.sigmoid(logits.detach()), slope


def _deviation(found, golden):
    probability, slope = found
    return (
        float((probability - golden["prob"]).abs().max()),
        float((slope - golden["grad"]).norm() / golden["grad"].norm()),
    )


def test_names_shapes_and_types_are_the_published_ones_in_order(published):
    with torch.device("meta"):
        state = IfosnNet().state_dict()
    found = {
        name: [list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()
    }
    assert list(found) == list(published)
    assert found == {name: row[:2] for name, row in published.items()}


def test_the_weights_are_those_of_the_golden_run(network, published):
    for name, value in network.state_dict().items():
        assert float(value.double().sum()) == pytest.approx(published[name][2], rel=1e-9, abs=1e-6), name


def test_probability_and_gradient_are_the_released_networks(network, golden):
    probability, slope = _deviation(_probability_and_slope(network), golden)
    assert probability < 1e-5 and slope < 1e-5


@pytest.mark.parametrize("size", [(33, 47), (64, 50)])
def test_every_image_of_a_batch_equals_itself_alone(network, size):
    images = _images(2, 3, *size)
    with torch.no_grad():
        together = network(images)
        for row in range(2):
            torch.testing.assert_close(network(images[row : row + 1])[0], together[row], rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(16, 16), (16, 31), (17, 16), (33, 47), (100, 66), (63, 65)])
def test_any_size_from_16_on_comes_back_at_that_size(single, size):
    with torch.no_grad():
        logits = single(_images(1, 3, *size).float())
    assert logits.shape == (1, 1, *size) and torch.isfinite(logits).all()


@pytest.mark.parametrize("size", [(33, 47), (21, 16)])
def test_an_odd_side_is_cut_as_the_published_nearest_resize_would(single, size):
    kept = []
    hook = single.final.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        logits = single(_images(1, 3, *size).float())
    hook.remove()
    assert kept[0].shape[-2:] == tuple(side + side % 2 for side in size)
    assert torch.equal(F.interpolate(kept[0], size=size, mode="nearest"), logits)


@pytest.mark.parametrize("size", [(15, 64), (64, 15), (1, 1)])
def test_a_side_below_16_is_refused(size):
    with torch.device("meta"):
        network, image = IfosnNet(), torch.empty(1, 3, *size)
    with pytest.raises(ValueError, match=f"at least 16 x 16 pixels; found {size[0]} x {size[1]}"):
        network(image)


def test_a_forward_pass_changes_no_weight(single):
    before = {name: value._version for name, value in single.state_dict().items()}
    sums = [float(value.double().sum()) for value in single.state_dict().values()]
    with torch.no_grad():
        single(_images(1, 3, 16, 16).float())
    assert {name: value._version for name, value in single.state_dict().items()} == before
    assert [float(value.double().sum()) for value in single.state_dict().values()] == sums


def test_features_are_untouched_by_what_follows(single):
    """The ReLUs work in place; none may work on what a stage has already returned."""
    kept = []
    stages = [*single.encoder_stages, *single.bottlenecks, *single.decoder_stages, single.last_upsample]
    hooks = [
        stage.register_forward_hook(lambda module, inputs, output: kept.append((output, output.clone())))
        for stage in stages
    ]
    with torch.no_grad():
        single(_images(1, 3, 32, 32).float())
    for hook in hooks:
        hook.remove()
    assert len(kept) == 14 and all(torch.equal(now, then) for now, then in kept)


def test_the_encoders_maps_run_from_fine_to_coarse(single):
    with torch.no_grad():
        maps = single.encode(_images(1, 3, 64, 32).float())
    assert [tuple(one.shape[1:]) for one in maps] == [
        (128, 32, 16),
        (256, 16, 8),
        (512, 8, 4),
        (1024, 4, 2),
        (2048, 2, 1),
    ]


def test_the_gradient_has_a_gradient(single):
    image = _images(1, 3, 16, 16).float().requires_grad_()
    (slope,) = torch.autograd.grad(single(image).sum(), image, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), image)
    assert torch.isfinite(curvature).all() and curvature.abs().sum() > 0


def test_it_runs_under_autocast(single):
    image = _images(1, 3, 32, 32).float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = single(image)
    assert logits.shape == (1, 1, 32, 32) and torch.isfinite(logits.float()).all()
