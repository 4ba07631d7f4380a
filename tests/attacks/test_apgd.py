"""APGD: against a slow version in NumPy, image by image, and what its schedule does."""

import numpy as np
import pytest
import torch

from attacks import apgd, uniform
from attacks.apgd import checkpoints
from attacks.lab import AttackProblem, problem, shape_of

PHI = 3 / 255


def by_hand(lab: AttackProblem, row: int, steps: int, start: np.ndarray | None = None) -> np.ndarray:
    """Croce and Hein's Algorithm 1 on one image: every loss and every point of the path is kept in a list."""
    single = lab.part([row])

    def f(x: np.ndarray) -> float:
        return float(single.loss(torch.from_numpy(x)).detach())

    def slope(x: np.ndarray) -> np.ndarray:
        leaf = torch.from_numpy(x).requires_grad_()
        return torch.autograd.grad(single.loss(leaf).sum(), leaf)[0].numpy()

    x0 = single.image.numpy()

    def project(x: np.ndarray) -> np.ndarray:
        return np.clip(np.clip(x, x0 - PHI, x0 + PHI), 0, 1)

    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    due = [int(np.ceil(round(share * steps, 6))) for share in shares]
    path = [x0 if start is None else project(x0 + PHI * start)]
    values = [f(path[0])]
    best, best_value = path[0], values[0]
    eta = 2 * PHI
    etas, bests, rose = {0: eta}, {0: best_value}, []
    x, value, previous = path[0], values[0], path[0]
    for step in range(1, steps + 1):
        z = project(x + eta * np.sign(slope(x)))
        new = project(x + 0.75 * (z - x) + 0.25 * (x - previous)) if step > 1 else z
        new_value = f(new)
        rose.append(new_value > value)
        previous, x, value = x, new, new_value
        if value > best_value:
            best, best_value = x, value
        if step in due:
            last = due[due.index(step) - 1]
            few = sum(rose[last:step]) < 0.75 * (step - last)
            stuck = etas[last] == eta and bests[last] == best_value
            etas[step], bests[step] = eta, best_value
            if few or stuck:
                eta, x, value = eta / 2, best, best_value
    return best


@pytest.mark.parametrize("steps", [1, 2, 15, 40])
@pytest.mark.parametrize("random", [False, True])
def test_it_equals_a_slow_version_that_follows_the_paper_image_by_image(steps: int, random: bool) -> None:
    lab = problem(3, size=8)
    start = uniform(lab.keys, shape_of(lab.image), 0).double() if random else None
    fast = apgd(lab.loss, lab.image, phi=lab.phi(3), steps=steps, start=start)
    for row in range(3):
        slow = by_hand(lab, row, steps, start[row : row + 1].numpy() if random else None)
        np.testing.assert_allclose(fast[row : row + 1].numpy(), slow, rtol=0, atol=1e-12)


def test_the_checkpoints_are_those_of_the_paper() -> None:
    # 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(15)) == [4, 7, 9, 11, 12, 14, 15]
    assert checkpoints(1) == {1}


def test_it_keeps_the_best_point_of_its_way_and_not_the_last() -> None:
    lab = problem(4)
    seen: list[torch.Tensor] = []

    def loss(x: torch.Tensor) -> torch.Tensor:
        values = torch.sin(300 * x).mean((1, 2, 3))
        seen.append(values.detach())
        return values

    attacked = apgd(loss, lab.image, phi=lab.phi(3), steps=12)
    values = torch.stack(seen)
    assert torch.equal(torch.sin(300 * attacked).mean((1, 2, 3)), values.amax(0))
    assert (values.amax(0) > values[-1]).any()


def test_on_a_linear_loss_it_reaches_the_corner_of_the_ball() -> None:
    lab = problem(2)
    weights = torch.randn(lab.image.shape, generator=torch.Generator().manual_seed(1)).double()
    attacked = apgd(lambda x: (x * weights).sum((1, 2, 3)), lab.image, phi=lab.phi(2), steps=3)
    assert torch.equal(attacked, torch.clamp(lab.image + 2 / 255 * weights.sign(), 0, 1))
