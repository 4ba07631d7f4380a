"""Square: a search without gradients that never loses what it has found."""

import pytest
import torch
from attack_lab import linear
from torch import Tensor

from attacks import LossFn, signs, square, uniform
from attacks.lab import AttackProblem, problem, shape_of
from attacks.square import _side, _square_mask


def run(lab: AttackProblem, loss: LossFn, queries: int, levels: float = 3, **given: float) -> Tensor:
    return square(
        loss,
        lab.image,
        stripes=signs(lab.keys, (3, 1, lab.image.shape[3]), 0).double(),
        draws=lambda query: uniform(lab.keys, (5, 1, 1), query).flatten(1).double(),
        phi=lab.phi(levels),
        queries=queries,
        **given,
    )


def test_the_best_of_all_queries_is_kept_for_every_image() -> None:
    lab = problem()
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(x: Tensor) -> Tensor:
        value = lab.loss(x)
        seen.append((value, x.clone()))
        return value

    attacked = run(lab, watched, 60)
    values = torch.stack([value for value, _ in seen])
    best = values.argmax(0)
    assert len(seen) == 60 and torch.equal(seen[0][1], lab.image)
    assert best.unique().numel() > 1
    for row, query in enumerate(best.tolist()):
        assert torch.equal(attacked[row], seen[query][1][row])


def test_the_first_candidate_is_stripes_and_the_next_differ_from_the_best_by_one_square() -> None:
    lab = problem(2)
    queries: list[Tensor] = []

    def never(x: Tensor) -> Tensor:  # better than the original
        queries.append(x.clone())
        return torch.full((len(x),), -float(len(queries)), dtype=x.dtype)

    assert torch.equal(run(lab, never, 40), lab.image)
    stripes = signs(lab.keys, (3, 1, lab.image.shape[3]), 0).double()
    assert torch.equal(queries[1], (lab.image + lab.phi(3) * stripes).clamp(0, 1))
    for query in queries[2:]:
        for moved in (query != lab.image).any(1):
            rows, columns = moved.any(1).nonzero(), moved.any(0).nonzero()
            # where black or white is in the way a pixel of the square stays
            height, width = (int(one.max() - one.min()) + 1 for one in (rows, columns))
            assert max(height, width) < 12 and moved.sum() >= 0.5 * height * width


def test_on_a_linear_loss_it_climbs_towards_the_corner_of_the_box() -> None:
    lab = problem(2, size=6)
    weights = torch.randn(lab.image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss = linear(weights)
    top = loss((lab.image + lab.phi(3) * weights.sign()).clamp(0, 1)) - loss(lab.image)
    gains = [(loss(run(lab, loss, queries)) - loss(lab.image)) / top for queries in (2, 100, 600)]
    assert (gains[0] < gains[1]).all() and (gains[1] < gains[2]).all()
    assert (gains[2] > 0.6).all() and (gains[2] <= 1).all()


def test_a_loss_that_gives_no_gradient_is_no_obstacle() -> None:
    lab = problem(2)

    def steps(x: Tensor) -> Tensor:
        assert not x.requires_grad and not torch.is_grad_enabled()
        return (lab.loss(x) * 1e4).floor()

    assert (lab.loss(run(lab, steps, 200)) > lab.loss(lab.image)).all()


def test_squares_shrink_by_the_published_schedule() -> None:
    # p = 0.8 of 100 x 100 pixels, after 0, 10, 50, ... of 10,000 queries
    expected = {
        0: 89,
        10: 89,
        11: 63,
        51: 45,
        201: 32,
        501: 22,
        1001: 16,
        2001: 11,
        4001: 8,
        6001: 6,
        8001: 4,
    }
    for query, side in expected.items():
        assert _side(query, 10_000, (100, 100), 0.8) == side
    assert _side(101, 1000, (100, 100), 0.8) == 16
    assert _side(0, 10, (5, 40), 1.0) == 4 and _side(9, 10, (1, 40), 1.0) == 1


def test_every_place_inside_the_image_is_equally_likely_and_none_outside_it_is_tried() -> None:
    drawn = uniform(torch.arange(20_000), (2, 1, 1), 3).flatten(1)
    inside = _square_mask(drawn, 3, (5, 8))
    assert (inside.sum((1, 2, 3)) == 9).all()
    corners = inside[:, 0].flatten(1).double().argmax(1).bincount(minlength=40).reshape(5, 8)
    assert (corners[3:] == 0).all() and (corners[:, 6:] == 0).all()
    expected = 20_000 / (3 * 6)
    assert ((corners[:3, :6] - expected).abs() < 6 * expected**0.5).all()
    assert _square_mask(torch.full((1, 2), 1 - 2**-23), 3, (5, 7)).nonzero()[-1].tolist() == [0, 0, 4, 6]


def test_wrong_input_is_refused_by_name() -> None:
    lab = problem(2)
    for queries in (1, 0):
        with pytest.raises(ValueError, match=f"queries must be at least 2; found {queries}"):
            run(lab, lab.loss, queries)
    for p_init in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"p_init must be in \(0, 1\]; found"):
            run(lab, lab.loss, 3, p_init=p_init)
    draws = uniform(lab.keys, shape_of(lab.image), 0)
    with pytest.raises(ValueError, match="stripes must have shape"):
        square(lab.loss, lab.image, stripes=draws, draws=lambda query: draws, phi=lab.phi(1), queries=3)
