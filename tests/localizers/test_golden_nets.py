"""Networks against numbers of the official ones, through files as their authors release them (slow), and in small.

The float64 tolerance is 1e-6: a LayerNorm with a wrong epsilon moves the map by little more.
"""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from as_released import as_released
from fill import fill
from tiled import distances, small_result, tiled_network
from torch.nn import functional as F

from afbench import load_localizer
from afbench.localizers.checkpoint_files import state_sha256
from afbench.localizers.load import recipe
from afbench.localizers.register import add_weights

GOLDEN = Path(__file__).parent / "golden"
STEP = 3
"""Every third row and column of the official output and gradient is stored, and the whole gradient's norm."""
SINGLE = {"mesorch": (2e-5, 1e-3), "imlvit": (2e-5, 1e-3), "trufor": (1e-4, 2e-2)}
"""Allowed differences of float32 from the official float64 run: of the probability, and of the gradient, relative."""
LEGAL = {"mesorch": ((32, 32), (32, 96)), "imlvit": ((32, 32), (48, 240)), "trufor": ((29, 29), (33, 61))}
ILLEGAL = {
    "mesorch": ((16, 32), (32, 48), (40, 40)),
    "imlvit": ((16, 64), (40, 64)),
    "trufor": ((28, 64), (64, 28)),
}


@pytest.fixture(scope="module", params=SINGLE)
def localizer(request):
    """The network under weights that cost nothing to draw; only one at a time, since they are big."""
    network = tiled_network(request.param)
    return SimpleNamespace(name=request.param, network=network, recipe=recipe(request.param))


@pytest.fixture(scope="module", params=SINGLE)
def official(request, tmp_path_factory):
    """The localizer of a released file that was registered; only one at a time, since they are big."""
    name, folder = request.param, tmp_path_factory.mktemp("released")
    with torch.device("meta"):
        network = recipe(name).network()
    network = fill(network, name)
    digest = state_sha256(network)
    path = as_released(name, network.state_dict(), folder)
    del network
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFBENCH_WEIGHTS", str(folder / "weights"))
        registration = add_weights(name, path)
        path.unlink()
        built = load_localizer(name, resolution="input")
        registration.path.unlink()
    assert (built.name, built.untrained, built.weights_sha256) == (name, False, digest)
    return built


@pytest.fixture(scope="module")
def golden(official):
    with np.load(GOLDEN / f"{official.name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def random_images(*shape, seed=0):
    return torch.from_numpy(np.random.Generator(np.random.PCG64(seed)).random(shape))


def deviations(localizer, network, golden, prefix, dtype):
    """Compare probability, gradient and loss of a network with the stored ones."""
    shape, seeds = golden[f"{prefix}shape"].tolist(), golden[f"{prefix}seeds"].tolist()
    image = random_images(*shape, seed=seeds[0]).to(dtype).requires_grad_()
    target = (random_images(1, 1, *shape[2:], seed=seeds[1]) > 0.5).to(dtype)
    logits = localizer.recipe.logits(localizer.recipe.answer(network, image), shape[2:])
    loss = F.binary_cross_entropy_with_logits(logits, target)
    (gradient,) = torch.autograd.grad(loss, image)
    assert logits.dtype == gradient.dtype == dtype
    probability, gradient = torch.sigmoid(logits.detach()).double().numpy(), gradient.double().numpy()
    part, expected = gradient[..., ::STEP, ::STEP], golden[f"{prefix}grad"]
    return (
        np.abs(probability[..., ::STEP, ::STEP] - golden[f"{prefix}prob"]).max(),
        np.linalg.norm(part - expected) / np.linalg.norm(expected),
        abs(np.linalg.norm(gradient) / golden[f"{prefix}grad_norm"] - 1),
        abs(float(loss.detach()) - golden[f"{prefix}loss"]),
    )


@pytest.mark.parametrize("name", SINGLE)
def test_names_shapes_and_types_are_the_published_ones_in_order(name):
    with torch.device("meta"):
        state = recipe(name).network().state_dict()
    rows = {key: [list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in state.items()}
    published = json.loads((GOLDEN / f"{name}.state.json").read_text())
    assert rows == published and list(rows) == list(published)


@pytest.mark.slow
def test_probability_gradient_and_loss_are_the_official_networks(official, golden):
    network = copy.deepcopy(official.network).double()
    for prefix in ("", "odd_"):  # a pair of odd sides only of the network that takes them
        if f"{prefix}prob" in golden:
            assert max(deviations(official, network, golden, prefix, torch.float64)) < 1e-6


@pytest.mark.slow
def test_single_precision_stays_near(official, golden):
    probability, *gradient, loss = deviations(official, official.network, golden, "", torch.float32)
    most_probability, most_gradient = SINGLE[official.name]
    assert max(probability, loss) < most_probability and max(gradient) < most_gradient


def test_a_small_image_gets_the_numbers_of_the_network_that_is_the_official_one(localizer):
    single = small_result(localizer.network, localizer.name)
    double = small_result(copy.deepcopy(localizer.network).double(), localizer.name)
    assert double.gradient.dtype == torch.float64 and max(distances(double, localizer.name)) < 1e-9
    most_probability, most_gradient = SINGLE[localizer.name]
    probability, gradient = distances(single, localizer.name)
    assert single.gradient.dtype == torch.float32
    assert probability < most_probability and gradient < most_gradient


def test_every_image_of_a_batch_equals_itself_alone(localizer):
    images = random_images(2, 3, *LEGAL[localizer.name][1]).float()
    images[1] /= 4  # so that a statistic of the whole batch would show
    with torch.no_grad():
        together = localizer.network(images)
        alone = torch.cat([localizer.network(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-5 * float(together.abs().max()))


def test_legal_sizes_come_back_at_their_size_and_others_are_refused(localizer):
    for size in LEGAL[localizer.name]:
        with torch.no_grad():
            logits = localizer.network(random_images(1, 3, *size).float())
        assert logits.shape == (1, 1, *size) and torch.isfinite(logits).all()
    for height, width in ILLEGAL[localizer.name]:
        with pytest.raises(ValueError, match=f"found {height} x {width}"):
            localizer.network(torch.zeros(1, 3, height, width))


def test_a_forward_pass_changes_no_weight_and_its_gradient_has_a_gradient(localizer):
    versions = [value._version for value in localizer.network.state_dict().values()]
    image = random_images(1, 3, *LEGAL[localizer.name][0]).float().requires_grad_()
    (slope,) = torch.autograd.grad(localizer.network(image).sum(), image, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.square().sum(), image)
    assert torch.isfinite(curvature).all() and curvature.abs().sum() > 0
    assert [value._version for value in localizer.network.state_dict().values()] == versions


def test_it_runs_under_autocast(localizer):
    size = LEGAL[localizer.name][0]
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = localizer.network(random_images(1, 3, *size).float())
    assert logits.shape == (1, 1, *size) and torch.isfinite(logits.float()).all()
