"""C&W: against torch.optim, closed forms, snapshots, the localization hinge."""

import pytest
import torch
from attack_lab import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from afbench.losses import Objective, forged_excess
from attacks import LossFn, cw, cw_search
from attacks.lab import problem


def valley(image: Tensor) -> LossFn:
    """Quadratic plus linear, another one for each value; its gradient is exactly rounded."""
    generator = torch.Generator().manual_seed(5)
    square, slope = (torch.randn(image.shape, dtype=image.dtype, generator=generator) for _ in range(2))
    return lambda x: (square.abs() * (x - 0.5).square() + slope * x).sum((1, 2, 3))


def by_torch_optim(
    objective: LossFn, image: Tensor, steps: int, lr: float, c: float, optimizer: str
) -> Tensor:
    xi = torch.zeros_like(image).requires_grad_()
    known = {"adam": torch.optim.Adam, "gd": torch.optim.SGD}
    optimiser = known[optimizer]([xi], lr=lr)
    for _ in range(steps):
        optimiser.zero_grad()
        (xi.square().sum() + c * objective(image + xi).sum()).backward()
        optimiser.step()
    return (image + xi.detach()).clamp(0, 1)


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize(("lr", "c"), [(1e-3, 1.0), (1e-2, 0.3), (1e-4, 100.0)])
def test_cw_equals_torch_optim(optimizer: str, lr: float, c: float) -> None:
    lab = problem(2)
    objective = valley(lab.image)
    for steps, attacked in zip(
        (1, 20, 60),
        cw(objective, lab.image, steps=[1, 20, 60], lr=lr, c=c, optimizer=optimizer),
        strict=True,
    ):
        expected = by_torch_optim(objective, lab.image, steps, lr, c, optimizer)
        assert torch.allclose(attacked, expected, rtol=0, atol=1e-12)


@settings(max_examples=15)
@given(lr=st.floats(1e-5, 0.4), c=st.floats(0, 0.1), steps=st.integers(1, 30))
def test_gradient_descent_on_a_linear_objective_has_a_closed_form(lr: float, c: float, steps: int) -> None:
    lab = problem(2, size=4)
    weights = torch.randn(lab.image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (attacked,) = cw(linear(weights), lab.image, steps=[steps], lr=lr, c=c, optimizer="gd")
    xi = -c * weights / 2 * (1 - (1 - 2 * lr) ** steps)
    assert torch.allclose(attacked, (lab.image + xi).clamp(0, 1), rtol=0, atol=1e-12)


def test_cw_arrives_at_the_known_optimum() -> None:
    # d/dxi (xi^2 + c w xi) = 0 at xi = -c w / 2.
    lab = problem(2)
    weights = valley(torch.ones_like(lab.image))(lab.image).sign().reshape(-1, 1, 1, 1) + torch.zeros_like(
        lab.image
    )
    image = torch.full_like(lab.image, 0.5)
    (attacked,) = cw(linear(weights), image, steps=[400], lr=1e-3, c=0.1)
    assert torch.allclose(attacked, image - 0.05 * weights, rtol=0, atol=1e-4)


def test_the_first_step_of_adam_is_lr_whatever_the_gradient() -> None:
    lab = problem(2)
    image = torch.full_like(lab.image, 0.5)
    for scale in (1e-3, 1.0, 1e6):
        (attacked,) = cw(linear(torch.full_like(image, scale)), image, steps=[1], lr=2e-3)
        assert torch.allclose(attacked, image - 2e-3, rtol=0, atol=1e-7)


def test_snapshots_equal_separate_runs() -> None:
    lab = problem(2)

    def objective(x: Tensor) -> Tensor:
        return -lab.loss(x)

    wanted = [1, 5, 12, 30]
    snapshots = list(cw(objective, lab.image, steps=wanted, c=100.0))
    assert len(snapshots) == len(wanted)
    for steps, snapshot in zip(wanted, snapshots, strict=True):
        (alone,) = cw(objective, lab.image, steps=[steps], c=100.0)
        assert torch.equal(snapshot, alone)


def test_a_snapshot_may_be_changed_without_changing_the_next() -> None:
    lab = problem(2)
    untouched = list(cw(valley(lab.image), lab.image, steps=[2, 4]))
    changed = []
    for snapshot in cw(valley(lab.image), lab.image, steps=[2, 4]):
        changed.append(snapshot.clone())
        snapshot.zero_()
    assert all(torch.equal(a, b) for a, b in zip(untouched, changed, strict=True))


def test_nothing_is_computed_beyond_what_is_asked_for() -> None:
    lab = problem(2)
    calls: list[int] = []

    def objective(x: Tensor) -> Tensor:
        calls.append(len(x))
        return -lab.loss(x)

    trajectory = cw(objective, lab.image, steps=[3, 7])
    assert len(calls) == 0
    next(trajectory)
    assert len(calls) == 3
    list(trajectory)
    assert len(calls) == 7


def test_iterates_may_leave_the_range_and_come_back() -> None:
    lab = problem(1)
    image = torch.ones_like(lab.image)
    seen: list[float] = []

    def objective(x: Tensor) -> Tensor:
        seen.append(float(x.detach().max()))
        return -x.sum((1, 2, 3))

    (attacked,) = cw(objective, image, steps=[20])
    assert max(seen) > 1 and torch.equal(attacked, image)


def test_the_localization_hinge_lowers_the_forged_excess() -> None:
    lab = problem()
    threshold = 0.5

    def hinge(x: Tensor) -> Tensor:
        return (2 * (torch.sigmoid(lab.localizer(x)) - threshold)).clamp(min=0).sum((1, 2, 3))

    # The excess, not the count of forged pixels: the square norm pulls pixels back to rest at the threshold, where
    # rounding decides on which side they fall, and more steps can leave more of them above it (measured: 29, 40, 55).
    excess = [hinge(lab.image), *(hinge(x) for x in cw(hinge, lab.image, steps=[50, 100, 250]))]
    total = torch.stack(excess).sum(1)
    assert (total.diff() < 0).all() and (excess[-1] < excess[0] / 5).all()


def test_the_perturbation_shrinks_where_the_objective_is_met() -> None:
    # The hinge is zero below 0.45: the square norm pulls xi back to the boundary and no further.
    image = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)

    def hinge(x: Tensor) -> Tensor:
        return (x - 0.45).clamp(min=0).sum((1, 2, 3))

    (attacked,) = cw(hinge, image, steps=[600], lr=1e-3, c=1.0)
    assert ((attacked - 0.45).abs() < 5e-3).all()


@pytest.mark.parametrize("steps", [[], [0], [-1, 5], [5, 5], [10, 5], [2.5], [1, 2, 2]])
def test_steps_must_increase_from_one(steps: list[int]) -> None:
    lab = problem(2)
    with pytest.raises(ValueError, match="steps must be strictly increasing positive integers; found"):
        cw(lab.loss, lab.image, steps=steps)


def test_wrong_input_is_refused_at_the_call_and_not_at_the_first_image() -> None:
    lab = problem(2)
    with pytest.raises(ValueError, match="optimizer 'sgd' is unknown; known optimizers: adam, gd"):
        cw(lab.loss, lab.image, steps=[1], optimizer="sgd")
    with pytest.raises(ValueError, match="image must be float"):
        cw(lab.loss, lab.image * 255, steps=[1])


def test_the_search_finds_the_smallest_weight_that_succeeds_for_each_image() -> None:
    # xi = -c w / 2 at the optimum, and the objective is met where every pixel lies below 0.45: at c w / 2 = 0.05
    image = torch.full((3, 3, 2, 2), 0.5, dtype=torch.float64)
    slopes = torch.tensor([0.01, 0.15, 4.0], dtype=torch.float64).view(-1, 1, 1, 1)
    weights_seen: list[Tensor] = []

    def objective(x: Tensor) -> Tensor:
        return (slopes * x).sum((1, 2, 3))

    def score(x: Tensor) -> Tensor:
        weights_seen.append((0.5 - x[:, 0, 0, 0]) * 2 / slopes.flatten())
        return (x > 0.45).double().mean((1, 2, 3))

    attacked = cw_search(
        objective, image, steps=60, rounds=8, score=score, store=lambda x: x, lr=0.3, c=1.0, optimizer="gd"
    )
    needed = 0.1 / slopes.flatten()
    found = (0.5 - attacked[:, 0, 0, 0]) * 2 / slopes.flatten()
    assert (found >= needed).all() and (found < 1.3 * needed).all()
    # 4 x 1 / 2 leaves [0, 1] and is clipped
    assert torch.allclose(weights_seen[0], torch.tensor([1, 1, 0.25], dtype=torch.float64))
    assert torch.allclose(weights_seen[1], torch.tensor([8, 1 / 8, 1 / 8], dtype=torch.float64))


def test_one_round_of_the_search_is_the_plain_attack_and_images_do_not_meet() -> None:
    lab = problem(3)
    objective = valley(lab.image)

    def search(image: Tensor, objective: LossFn, rounds: int) -> Tensor:
        return cw_search(
            objective, image, steps=5, rounds=rounds, score=lambda x: x.mean((1, 2, 3)), store=lambda x: x
        )

    (plain,) = cw(objective, lab.image, steps=[5])
    assert torch.equal(search(lab.image, objective, 1), plain)
    weights = torch.randn(lab.image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    batch = search(lab.image, linear(weights), 4)
    for number in range(3):
        part = slice(number, number + 1)
        assert torch.equal(search(lab.image[part], linear(weights[part]), 4), batch[part])


def test_the_search_keeps_the_lowest_score_where_no_weight_succeeds() -> None:
    image = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    scores = iter([0.5, 0.2, 0.4])
    stored: list[Tensor] = []

    def store(x: Tensor) -> Tensor:
        stored.append(x)
        return x

    attacked = cw_search(
        lambda x: x.sum((1, 2, 3)),
        image,
        steps=3,
        rounds=3,
        score=lambda x: torch.full((1,), next(scores), dtype=torch.float64),
        store=store,
    )
    assert torch.equal(attacked, stored[1])


def test_the_search_shows_a_gradient_that_is_not_finite() -> None:
    image = torch.full((1, 3, 2, 2), 0.5, dtype=torch.float64)
    attacked = cw_search(
        lambda x: (x * torch.nan).sum((1, 2, 3)),
        image,
        steps=1,
        rounds=2,
        score=lambda x: torch.zeros(1, dtype=torch.float64),
        store=lambda x: x,
    )
    assert attacked.isnan().all()


@pytest.mark.parametrize("objective", ["probability", "logit"])
def test_pixels_end_below_the_threshold_by_kappa(objective: Objective) -> None:
    image = torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64)

    def lowered(x: Tensor, kappa: float) -> Tensor:
        logits = 20 * (x.mean(1, keepdim=True) - 0.47)
        return forged_excess(logits, threshold=0.5, objective=objective, kappa=kappa)

    for kappa in (0.0, 0.4):
        (attacked,) = cw(lambda x, kappa=kappa: lowered(x, kappa), image, steps=[800], lr=1e-4, c=5.0)
        per_pixel = lowered(attacked, kappa=10.0) / 16
        assert per_pixel.item() == pytest.approx(-kappa, abs=0.05)
