"""PGN: against a naive implementation, chunks, the inner step."""

import pytest
import torch
from attack_lab import linear, neighbours
from torch import Tensor

from attacks import LossFn, mifgsm, pgn
from attacks.lab import AttackProblem, problem

COUNT = 5


def naive_pgn(
    lab: AttackProblem, phi: float, alpha: float, steps: int, zeta: float, delta: float, mu: float
) -> Tensor:
    """Follow the authors' release one image and one neighbour at a time."""
    attacked = []
    for index in range(len(lab.image)):
        one = lab.part([index])
        draws = neighbours(one.image, one.keys, COUNT)
        x, momentum = one.image.clone(), torch.zeros_like(one.image)
        for step in range(steps):
            averaged = torch.zeros_like(x)
            for offset in draws(step):
                near = (x + zeta * phi * offset).requires_grad_()
                (g_near,) = torch.autograd.grad(one.loss(near).sum(), near)
                far = (near.detach() + alpha * (-g_near / g_near.abs().mean())).requires_grad_()
                (g_far,) = torch.autograd.grad(one.loss(far).sum(), far)
                averaged += (1 - delta) * g_near + delta * g_far
            averaged /= COUNT
            momentum = mu * momentum + averaged / averaged.abs().sum()
            x = one.image + (x + alpha * momentum.sign() - one.image).clamp(-phi, phi)
            x = x.clamp(0, 1)
        attacked.append(x)
    return torch.cat(attacked)


@pytest.mark.parametrize(
    ("zeta", "delta", "mu"), [(3.0, 0.5, 1.0), (0.5, 0.2, 0.9), (3.0, 0.0, 0.0), (1.0, 1.0, 1.0)]
)
def test_pgn_equals_one_neighbour_at_a_time(zeta: float, delta: float, mu: float) -> None:
    lab = problem(3)
    phi = 3 / 255
    attacked = pgn(
        lab.loss,
        lab.image,
        noise=neighbours(lab.image, lab.keys, COUNT),
        phi=lab.phi(3),
        alpha=lab.phi(3) / 4,
        steps=4,
        zeta=zeta,
        delta=delta,
        mu=mu,
    )
    expected = naive_pgn(lab, phi, phi / 4, 4, zeta, delta, mu)
    assert torch.allclose(attacked, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
def test_the_chunk_never_changes_the_sum(chunk: int) -> None:
    lab = problem(2)
    settings = {"phi": lab.phi(3), "alpha": lab.phi(3) / 4, "steps": 3}
    noise = neighbours(lab.image, lab.keys, COUNT)
    whole = pgn(lab.loss, lab.image, noise=noise, **settings)
    assert torch.equal(pgn(lab.loss, lab.image, noise=noise, chunk=chunk, **settings), whole)


@pytest.mark.parametrize("chunk", [1, 2, 3, None])
def test_neighbours_are_added_one_after_the_other_whatever_the_chunk(chunk: int | None) -> None:
    # Slopes 1e16, 1, -1e16, 1: only in this order do they add up to 1, in pairs they add up to 0.
    image = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    phi = torch.full((1, 1, 1, 1), 1 / 255, dtype=torch.float64)
    offsets = torch.tensor([1.0, 0.0, -1.0, 0.0]).reshape(4, 1, 1, 1, 1).expand(4, *image.shape)

    def cancelling(x: Tensor) -> Tensor:
        side = (x.detach() - 0.5).mul(1e3).round().sign()
        return (torch.where(side == 0, 1, 1e16 * side) * x).sum((1, 2, 3))

    attacked = pgn(
        cancelling, image, noise=lambda step: offsets, phi=phi, alpha=phi, steps=1, delta=0.0, chunk=chunk
    )
    assert torch.equal(attacked, image + phi)


def test_the_chunk_bounds_the_batch_that_the_loss_sees() -> None:
    lab = problem(2)
    seen: list[int] = []

    def loss(x: Tensor) -> Tensor:
        seen.append(len(x))
        return lab.loss(x)

    noise = neighbours(lab.image, lab.keys, COUNT)
    pgn(loss, lab.image, noise=noise, phi=lab.phi(1), alpha=lab.phi(1), steps=1, chunk=2)
    assert seen == [4, 4, 4, 4, 2, 2]


def test_the_loss_sees_neighbours_of_the_whole_batch_one_after_the_other() -> None:
    lab = problem(2)
    seen: list[Tensor] = []

    def loss(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return lab.loss(x)

    noise = neighbours(lab.image, lab.keys, COUNT)
    pgn(loss, lab.image, noise=noise, phi=lab.phi(2), alpha=lab.phi(1), steps=1, zeta=2.0)
    expected = torch.cat([lab.image + 4 / 255 * offset.double() for offset in noise(0)])
    assert torch.allclose(seen[0], expected, rtol=0, atol=1e-12)
    # Neighbours are not clipped to [0, 1].
    assert seen[0].min() < 0 and seen[0].max() > 1


def test_the_second_gradient_is_taken_a_step_below_the_first() -> None:
    lab = problem(2)
    seen: list[Tensor] = []
    slope = linear(torch.full_like(lab.image, -7.0))

    def loss(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return slope(x)

    noise = neighbours(lab.image, lab.keys, COUNT)
    pgn(loss, lab.image, noise=noise, phi=lab.phi(2), alpha=lab.phi(1), steps=1)
    near, far = seen
    # g / mean|g| is -1 everywhere, so far = near + alpha: downhill, and by alpha whatever the gradient's size.
    assert torch.allclose(far, near + 1 / 255, rtol=0, atol=1e-12)


def test_pgn_without_neighbourhood_and_second_gradient_is_mifgsm() -> None:
    lab = problem(2)
    settings = {"phi": lab.phi(3), "alpha": lab.phi(3) / 4, "steps": 5}

    def noise(step: int) -> Tensor:
        return torch.zeros(1, *lab.image.shape)

    flat = pgn(lab.loss, lab.image, noise=noise, delta=0.0, **settings)
    assert torch.equal(flat, mifgsm(lab.loss, lab.image, **settings))


def test_pgn_prefers_a_wide_hill_to_a_needle() -> None:
    # Along x the loss has a needle uphill to the right of 0.5 and a broad slope uphill to the left.
    image = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)
    phi = torch.full((1, 1, 1, 1), 8 / 255, dtype=torch.float64)

    def needle(x: Tensor) -> Tensor:
        narrow = torch.exp(-(((x - 0.502) / 0.002) ** 2))
        return (narrow * 0.05 - 3 * x).sum((1, 2, 3))

    greedy = mifgsm(needle, image, phi=phi, alpha=phi / 10, steps=1)
    lab = AttackProblem(image, image[:, :1], torch.arange(1))
    calm = pgn(needle, image, noise=neighbours(image, lab.keys, 40), phi=phi, alpha=phi / 10, steps=10)
    assert (greedy > image).all()
    assert (calm < image).float().mean() > 0.9


def test_a_chunk_below_one_and_noise_of_the_wrong_shape_are_refused() -> None:
    lab = problem(2)
    settings: dict[str, LossFn | Tensor | int] = {"phi": lab.phi(1), "alpha": lab.phi(1), "steps": 1}
    with pytest.raises(ValueError, match="chunk must be at least 1 neighbour per launch; found 0"):
        pgn(lab.loss, lab.image, noise=neighbours(lab.image, lab.keys), chunk=0, **settings)
    with pytest.raises(ValueError, match=r"noise\(step\) must have shape \(2, 2, 3, 12, 12\); found"):
        pgn(lab.loss, lab.image, noise=lambda step: lab.image, **settings)
