"""The gradient of a per-image loss, and what an attack refuses at its entry."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attacks import check_image, input_gradient, pgn
from attacks.gradient import check_shape, check_steps
from attacks.lab import AttackProblem, Candidate


def test_the_gradient_is_that_of_the_sum(lab: AttackProblem) -> None:
    x = lab.image.clone().requires_grad_()
    lab.loss(x).sum().backward()
    assert torch.equal(input_gradient(lab.loss, lab.image), x.grad)


def test_the_gradient_agrees_with_finite_differences(lab: AttackProblem) -> None:
    along = torch.randn(lab.image.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    slope = (lab.loss(lab.image + 1e-5 * along) - lab.loss(lab.image - 1e-5 * along)) / 2e-5
    g = input_gradient(lab.loss, lab.image)
    torch.testing.assert_close((g * along).sum((1, 2, 3)), slope, rtol=1e-6, atol=1e-9)


def test_a_network_in_another_memory_layout_gives_back_a_contiguous_gradient() -> None:
    image = torch.rand(2, 3, 5, 7)
    gradient = input_gradient(
        lambda x: x.contiguous(memory_format=torch.channels_last).square().sum((1, 2, 3)), image
    )
    assert gradient.is_contiguous() and torch.equal(gradient, 2 * image)


def test_the_callers_graph_is_left_alone(lab: AttackProblem) -> None:
    scale = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    g = input_gradient(lab.loss, lab.image * scale)
    assert not g.requires_grad and scale.grad is None


@pytest.mark.parametrize(
    ("reduce", "found"),
    [
        (torch.mean, r"\(\)"),
        (lambda values: values[:1], r"\(1,\)"),
        (lambda values: values[:, None], r"\(3, 1\)"),
    ],
)
def test_a_loss_that_is_not_one_number_per_image_is_refused(
    lab: AttackProblem, reduce: Callable[[Tensor], Tensor], found: str
) -> None:
    with pytest.raises(ValueError, match=rf"one number per image, shape \(3,\); found {found}: reduce"):
        input_gradient(lambda x: reduce(lab.loss(x)), lab.image)


def test_a_detached_loss_is_refused(white_box: Candidate, lab: AttackProblem) -> None:
    def detached(x: Tensor) -> Tensor:
        with torch.no_grad():
            return lab.loss(x)

    with pytest.raises(ValueError, match="loss does not depend on the image"):
        white_box.run(detached, lab.image, lab.phi(1), lab.keys, 2)


def test_a_loss_cut_off_from_the_image_is_refused_though_parameters_keep_a_graph(lab: AttackProblem) -> None:
    with pytest.raises(ValueError, match="loss does not depend on the image"):
        input_gradient(lambda x: lab.loss(x.detach()), lab.image)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: x * 255, r"values in \[0, 255\]"),
        (lambda x: x - 0.5, r"values in \[-0.5, 0.5\]"),
        (lambda x: x * 1.001, r"values in \[0, 1.001\]"),
        (lambda x: x - 0.001, r"values in \[-0.001, 0.999\]"),
        (lambda x: x / 0, r"values in \[nan, nan\]"),
        (lambda x: x.permute(0, 2, 3, 1), r"torch.float64 \(3, 12, 8, 3\)"),
        (lambda x: x[:, :1], r"torch.float64 \(3, 1, 12, 8\)"),
        (lambda x: (x * 255).byte(), r"torch.uint8 \(3, 3, 12, 8\)"),
    ],
)
def test_what_is_not_an_image_is_refused_with_what_was_found(
    attack: Candidate, lab: AttackProblem, change: Callable[[Tensor], Tensor], found: str
) -> None:
    with pytest.raises(ValueError, match=rf"image must be float \(N, 3, H, W\).*; found {found}"):
        attack.run(lab.loss, change(lab.image), lab.phi(1), lab.keys, 2)


def test_a_lone_image_without_a_batch_is_refused(lab: AttackProblem) -> None:
    with pytest.raises(ValueError, match=r"found torch.float64 \(3, 12, 8\): put channels first"):
        check_image(lab.image[0])


@pytest.mark.parametrize("shape", [(), (3,), (1, 1, 1, 1), (3, 1), (3, 3, 12, 8)])
def test_a_phi_that_would_broadcast_is_refused(
    bounded: Candidate, lab: AttackProblem, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"phi must have shape \(3, 1, 1, 1\); found \(") as error:
        bounded.run(lab.loss, lab.image, torch.full(shape, 1 / 255), lab.keys, 2)
    assert str(error.value).endswith(f"found {shape}")


@pytest.mark.parametrize("chunk", [None, 2])
def test_pgn_without_neighbours_is_refused(lab: AttackProblem, chunk: int | None) -> None:
    def nobody(step: int) -> Tensor:
        return torch.zeros(0, *lab.image.shape)

    with pytest.raises(ValueError, match=r"at least 1 neighbour; found shape \(0, 3, 3, 12, 8\)"):
        pgn(lab.loss, lab.image, noise=nobody, phi=lab.phi(1), alpha=lab.phi(1), steps=1, chunk=chunk)


def test_the_dtype_of_the_state_can_hold_an_attack() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert check_image(image.double()).dtype == torch.float64
    for low in (torch.float32, torch.float16, torch.bfloat16):
        assert check_image(image.to(low)).dtype == torch.float32


def test_an_empty_batch_stays_empty(attack: Candidate, lab: AttackProblem) -> None:
    empty = lab.part(slice(0))
    attacked = attack.run(lambda x: x.sum((1, 2, 3)), empty.image, empty.phi(1), empty.keys, 2)
    assert attacked.shape == (0, 3, 12, 8)


def test_a_shape_error_names_the_argument() -> None:
    with pytest.raises(ValueError, match=r"start must have shape \(2, 3\); found \(3, 2\)"):
        check_shape("start", torch.zeros(3, 2), (2, 3), torch.zeros(1))


@pytest.mark.parametrize("steps", [0, -3])
def test_a_step_count_below_one_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps must be at least 1; found {steps}"):
        check_steps(steps)
