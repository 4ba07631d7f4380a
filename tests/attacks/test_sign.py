"""FGSM, BIM, PGD, MI-FGSM and the noise control: closed forms, shared gradients, wrong input."""

import math

import pytest
import torch
from attack_lab import linear, neighbours
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attacks import bim, fgsm, input_gradient, mifgsm, noise, pgd, pgn, signs, uniform
from attacks.lab import Counted, problem, shape_of

few = settings(max_examples=15)


def slopes(image: Tensor) -> Tensor:
    """Random weights, some of them zero."""
    weights = torch.randn(image.shape, dtype=image.dtype, generator=torch.Generator().manual_seed(3))
    return weights * (weights.abs() > 0.2)


def close(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=0, atol=1e-12)


@few
@given(levels=st.floats(1, 26), seed=st.integers(0, 1000))
def test_fgsm_on_a_linear_loss_is_the_corner_of_the_box(levels: float, seed: int) -> None:
    lab = problem(2, size=5, seed=seed)
    weights = slopes(lab.image)
    expected = (lab.image + levels / 255 * weights.sign()).clamp(0, 1)
    assert close(fgsm(linear(weights), lab.image, phi=lab.phi(levels)), expected)


@few
@given(levels=st.floats(1, 26), ratio=st.floats(0.05, 1.5), steps=st.integers(1, 12))
def test_iterations_on_a_linear_loss_travel_a_known_distance(levels: float, ratio: float, steps: int) -> None:
    lab = problem(2, size=5)
    weights, phi = slopes(lab.image), lab.phi(levels)
    settings = {"phi": phi, "alpha": phi * ratio, "steps": steps}
    loss = linear(weights)
    expected = (lab.image + min(1, ratio * steps) * phi * weights.sign()).clamp(0, 1)
    assert close(bim(loss, lab.image, **settings), expected)
    assert close(mifgsm(loss, lab.image, **settings), expected)
    assert close(pgn(loss, lab.image, noise=neighbours(lab.image, lab.keys, 2), **settings), expected)
    # From a start in the ball the way to the wall is longer or shorter; walls never let go on a straight way.
    start = uniform(lab.keys, shape_of(lab.image), 0).double()
    low, high = (lab.image - phi).clamp(min=0), (lab.image + phi).clamp(max=1)
    begun = torch.clamp(lab.image + phi * start, low, high)
    expected = torch.clamp(begun + steps * ratio * phi * weights.sign(), low, high)
    assert close(pgd(loss, lab.image, start=start, **settings), expected)


def test_the_noise_control_moves_every_value_by_phi() -> None:
    lab = problem()
    random = signs(lab.keys, shape_of(lab.image), 0).double()
    moved = noise(lab.image, signs=random, phi=lab.phi(2))
    assert torch.equal(moved, (lab.image + lab.phi(2) * random).clamp(0, 1))


def test_bim_of_one_step_of_phi_is_fgsm() -> None:
    lab = problem()
    phi = lab.phi(2)
    one = fgsm(lab.loss, lab.image, phi=phi)
    assert torch.equal(bim(lab.loss, lab.image, phi=phi, alpha=phi, steps=1), one)
    assert torch.equal(mifgsm(lab.loss, lab.image, phi=phi, alpha=phi, steps=1), one)


def test_mifgsm_without_memory_is_bim() -> None:
    lab = problem()
    settings = {"phi": lab.phi(2), "alpha": lab.phi(2) / 4, "steps": 6}
    assert torch.equal(mifgsm(lab.loss, lab.image, mu=0.0, **settings), bim(lab.loss, lab.image, **settings))


def test_pgd_from_the_image_itself_is_bim() -> None:
    lab = problem()
    settings = {"phi": lab.phi(2), "alpha": lab.phi(2) / 4, "steps": 6}
    start = torch.zeros_like(lab.image)
    assert torch.equal(
        pgd(lab.loss, lab.image, start=start, **settings), bim(lab.loss, lab.image, **settings)
    )


def test_mifgsm_weighs_gradients_by_their_direction_and_not_their_size() -> None:
    # Normalised, the second gradient outweighs mu = 0.5 of the first one, which points the other way.
    lab = problem(1)
    calls: list[float] = []

    def turning(x: Tensor) -> Tensor:
        calls.append(1e6 if not calls else -1e-6)
        return x.sum((1, 2, 3)) * calls[-1]

    image = torch.full_like(lab.image, 0.5)
    phi = lab.phi(3)
    attacked = mifgsm(turning, image, phi=phi, alpha=phi / 3, steps=2, mu=0.5)
    assert close(attacked, image)


def test_normalised_gradients_add_up_at_mu_one() -> None:
    # Pixels follow the sum of both unit gradients, not the last one: (4, 1, 1) / 6 + (-1, 1, -4) / 6.
    image, phi = torch.full((1, 3, 1, 1), 0.5, dtype=torch.float64), torch.full((1, 1, 1, 1), 8 / 255)
    weights = iter([[4.0, 1.0, 1.0], [-1.0, 1.0, -4.0]])

    def loss(x: Tensor) -> Tensor:
        return (x * x.new_tensor(next(weights)).reshape(1, 3, 1, 1)).sum((1, 2, 3))

    attacked = mifgsm(loss, image, phi=phi, alpha=phi / 8, steps=2)
    levels = ((attacked - image) * 255).flatten()
    assert torch.allclose(levels, levels.new_tensor([2, 2, 0]), rtol=0, atol=1e-5)


def test_a_gradient_handed_in_changes_no_bit() -> None:
    lab = problem()
    phi = lab.phi(3)
    gradient = input_gradient(lab.loss, lab.image)
    settings = {"phi": phi, "alpha": phi / 4, "steps": 10}
    for attack, arguments, spent in ((fgsm, {"phi": phi}, 0), (bim, settings, 9), (mifgsm, settings, 9)):
        counted = Counted(lab.loss)
        shared = attack(counted, lab.image, gradient=gradient, **arguments)
        assert torch.equal(shared, attack(lab.loss, lab.image, **arguments))
        assert counted.images == spent * len(lab.image)


def test_one_gradient_serves_every_phi() -> None:
    lab = problem(2)
    gradient = input_gradient(lab.loss, lab.image).repeat(3, 1, 1, 1)
    phi = torch.cat([lab.phi(levels) for levels in (1, 2, 3)])
    shared = fgsm(lab.loss, lab.image.repeat(3, 1, 1, 1), phi=phi, gradient=gradient)
    separate = [fgsm(lab.loss, lab.image, phi=lab.phi(levels)) for levels in (1, 2, 3)]
    assert torch.equal(shared, torch.cat(separate))


def test_settings_in_another_precision_do_not_change_the_images() -> None:
    lab = problem(2)
    lab.localizer.float()
    start = uniform(lab.keys, shape_of(lab.image), 0).double()
    attacked = pgd(lab.loss, lab.image.float(), start=start, phi=lab.phi(2), alpha=lab.phi(1), steps=2)
    assert attacked.dtype == torch.float32


def test_a_nan_gradient_is_not_hidden() -> None:
    lab = problem(2)
    weights = torch.ones_like(lab.image)
    weights[0, 0, 0, 0] = math.nan
    attacked = bim(linear(weights), lab.image, phi=lab.phi(1), alpha=lab.phi(1), steps=2)
    assert attacked[0, 0, 0, 0].isnan() and attacked[1].isfinite().all()


@pytest.mark.parametrize("steps", [0, -1])
def test_fewer_than_one_step_is_refused(steps: int) -> None:
    lab = problem(2)
    settings = {"phi": lab.phi(1), "alpha": lab.phi(1), "steps": steps}
    for run in (
        lambda: bim(lab.loss, lab.image, **settings),
        lambda: mifgsm(lab.loss, lab.image, **settings),
        lambda: pgd(lab.loss, lab.image, start=torch.zeros_like(lab.image), **settings),
        lambda: pgn(lab.loss, lab.image, noise=neighbours(lab.image, lab.keys), **settings),
    ):
        with pytest.raises(ValueError, match=f"steps must be at least 1; found {steps}"):
            run()


def test_tensors_of_the_wrong_shape_are_refused_by_name() -> None:
    lab = problem(2)
    phi, short = lab.phi(1), torch.zeros(2, 3, 1, 1)
    with pytest.raises(ValueError, match="alpha must have shape"):
        bim(lab.loss, lab.image, phi=phi, alpha=phi[0], steps=1)
    with pytest.raises(ValueError, match="gradient must have shape"):
        fgsm(lab.loss, lab.image, phi=phi, gradient=short)
    with pytest.raises(ValueError, match="start must have shape"):
        pgd(lab.loss, lab.image, start=short, phi=phi, alpha=phi, steps=1)
    with pytest.raises(ValueError, match="signs must have shape"):
        noise(lab.image, signs=short, phi=phi)
