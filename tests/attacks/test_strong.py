"""The worst case over members: what is kept, what it costs, and that rounding is seen."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from afbench.images import quantise
from attacks import EnsembleMember, Worst, apgd, strong, uniform
from attacks.lab import AttackProblem, Counted, problem, shape_of

STEPS = 4


def storing(image: Tensor, levels: int) -> Callable[[Tensor], Tensor]:
    def store(x: Tensor) -> Tensor:
        return quantise(x, image, levels).permute(0, 3, 1, 2).to(x) / 255

    return store


def run(
    lab: AttackProblem,
    members: list[EnsembleMember],
    score: Callable[[Tensor], Tensor],
    levels: int = 2,
    lowest: float = -math.inf,
) -> Worst:
    store = storing(lab.image, levels)
    phi = lab.phi(levels)
    return strong(members, lab.image, score=score, store=store, phi=phi, steps=STEPS, lowest=lowest)


def mean_of(lab: AttackProblem, sign: int) -> Callable[[Tensor], Tensor]:
    return lambda x: sign * x.mean((1, 2, 3))


def test_of_every_image_the_member_with_the_lowest_score_is_kept() -> None:
    lab = problem(3)
    brighter, darker = EnsembleMember(mean_of(lab, 1)), EnsembleMember(mean_of(lab, -1))
    # the first image is worth less when dark, the second when bright, the third at what it is
    worth = torch.tensor([1.0, -1.0, 0.0], dtype=torch.float64)
    stays = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    def score(x: Tensor) -> Tensor:
        return worth * x.mean((1, 2, 3)) + stays * (x - lab.image).abs().sum((1, 2, 3))

    worst = run(lab, [brighter, darker], score)
    assert worst.member.tolist() == [2, 1, 0]
    store = storing(lab.image, 2)
    for row, member in ((0, darker), (1, brighter)):
        alone = store(apgd(member.loss, lab.image, phi=lab.phi(2), steps=STEPS))
        assert torch.equal(worst.image[row], alone[row])
    assert torch.equal(worst.image[2], lab.image[2])
    assert torch.equal(worst.score, score(worst.image))


def test_the_pass_on_the_grid_finds_what_lies_between_the_members_and_the_original() -> None:
    lab = problem(2)

    def near_one_level_up(x: Tensor) -> Tensor:
        return ((x - lab.image) * 255 - 0.9).abs().sum((1, 2, 3))

    # the member ends two levels up, a little worse than the original
    worst = run(lab, [EnsembleMember(mean_of(lab, 1))], near_one_level_up)
    assert worst.member.tolist() == [2, 2]
    expected = torch.clamp(lab.image + 1 / 255, max=1)
    assert torch.allclose(worst.image, expected, rtol=0, atol=1e-9)


def test_what_it_returns_is_what_was_scored_on_the_grid_and_in_the_ball() -> None:
    lab = problem(3)
    start = uniform(lab.keys, shape_of(lab.image), 0).double()
    worst = run(
        lab, [EnsembleMember(lab.loss), EnsembleMember(lab.loss, start)], lambda x: -lab.loss(x).detach()
    )
    levels = worst.image * 255
    assert torch.allclose(levels, levels.round(), rtol=0, atol=1e-9)
    assert (levels - lab.image * 255).round().abs().max() == 2
    assert torch.equal(worst.score, -lab.loss(worst.image).detach())
    alone = storing(lab.image, 2)(apgd(lab.loss, lab.image, phi=lab.phi(2), steps=STEPS))
    assert (worst.score <= -lab.loss(alone)).all()


def test_an_image_does_not_depend_on_its_batch() -> None:
    lab = problem(3, size=16)
    start = uniform(lab.keys, shape_of(lab.image), 0).double()

    def worst_of(part: AttackProblem, starts: Tensor) -> Worst:
        return run(
            part,
            [EnsembleMember(part.loss), EnsembleMember(part.loss, starts)],
            lambda x: -part.loss(x).detach(),
        )

    together = worst_of(lab, start)
    for row in range(3):
        alone = worst_of(lab.part([row]), start[[row]])
        assert torch.equal(alone.image[0], together.image[row])
        assert torch.equal(alone.member[0], together.member[row])


def test_it_costs_the_same_steps_for_every_member_and_the_last_pass() -> None:
    lab = problem(2)
    loss, score = Counted(lab.loss), Counted(lambda x: -lab.loss(x).detach())
    run(lab, [EnsembleMember(loss), EnsembleMember(loss), EnsembleMember(loss)], score)
    # a gradient for every step, and each member's look at its last point
    assert loss.images == 2 * (4 * STEPS + 3)
    assert score.images == 2 * (1 + 3 + STEPS)


def test_a_score_from_the_pass_of_a_gradient_saves_a_pass_and_changes_nothing() -> None:
    lab = problem(2)
    loss, score = Counted(lab.loss), Counted(lambda x: -lab.loss(x).detach())

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        values = loss(x)
        return values, -values

    store, phi = storing(lab.image, 2), lab.phi(2)
    members = [EnsembleMember(loss), EnsembleMember(mean_of(lab, 1))]
    common = {"store": store, "phi": phi, "steps": STEPS}
    saving = strong(members, lab.image, score=score, loss_and_score=both, **common)
    assert score.images == 2 * (1 + 2 + 1)
    expected = strong(members, lab.image, score=score, **common)
    assert all(torch.equal(*pair) for pair in zip(saving, expected, strict=True))
    assert not saving.score.requires_grad


@pytest.mark.parametrize("member", [0, 1])
def test_a_broken_member_is_not_hidden_by_a_sound_one(member: int) -> None:
    lab = problem(2)
    weight = torch.tensor([1, math.nan], dtype=torch.float64)
    members = [EnsembleMember(lab.loss), EnsembleMember(lab.loss)]
    members[member] = EnsembleMember(lambda x: lab.loss(x) * weight)
    worst = run(lab, members, lambda x: -lab.loss(x).detach())
    assert worst.image[0].isfinite().all() and worst.image[1].isnan().all()


def test_of_equal_scores_the_first_member_is_kept_and_not_the_original() -> None:
    lab = problem(2)
    worst = run(
        lab, [EnsembleMember(lab.loss), EnsembleMember(mean_of(lab, 1))], lambda x: 0 * x.mean((1, 2, 3))
    )
    alone = storing(lab.image, 2)(apgd(lab.loss, lab.image, phi=lab.phi(2), steps=STEPS))
    assert worst.member.tolist() == [1, 1] and torch.equal(worst.image, alone)


def test_a_flat_loss_leaves_the_original() -> None:
    lab = problem(2)
    worst = run(
        lab, [EnsembleMember(lambda x: 0 * x.sum((1, 2, 3)))], lambda x: (255 * x).round().sum((1, 2, 3))
    )
    assert torch.equal(worst.image, lab.image)


def f1_of(lab: AttackProblem, lives: list[float]) -> Callable[[Tensor], Tensor]:
    """A score that is never below 0, which each image reaches once its loss has passed its life."""

    def score(x: Tensor) -> Tensor:
        return (torch.tensor(lives, dtype=torch.float64) - lab.loss(x).detach()).clamp(min=0)

    return score


@given(st.lists(st.floats(0.15, 0.4), min_size=3, max_size=3), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_ending_at_the_lowest_score_changes_nothing_but_the_gradients(
    lives: list[float], levels: int
) -> None:
    lab = problem(3)
    taken = []
    results = []
    for lowest in (-math.inf, 0.0):
        loss = Counted(lab.loss)
        start = uniform(lab.keys, shape_of(lab.image), 0).double()
        members = [EnsembleMember(mean_of(lab, 1)), EnsembleMember(loss), EnsembleMember(loss, start)]
        results.append(run(lab, members, f1_of(lab, lives), levels, lowest))
        taken.append(loss.images)
    full, early = results
    assert all(torch.equal(*pair) for pair in zip(full, early, strict=True))
    assert taken[1] <= taken[0]


def test_it_ends_after_the_member_that_brings_the_last_image_to_the_lowest_score() -> None:
    lab = problem(3)
    at_start = lab.loss(lab.image).detach()
    after_first = lab.loss(storing(lab.image, 2)(apgd(lab.loss, lab.image, phi=lab.phi(2), steps=STEPS)))
    half_way = ((at_start + after_first) / 2).tolist()
    for lives, ended in ((half_way, True), ([*half_way[:2], 1e6], False)):
        later = Counted(lab.loss)
        members = [EnsembleMember(lab.loss), EnsembleMember(later)]
        worst = run(lab, members, f1_of(lab, lives), lowest=0.0)
        # where one image goes on, the others stay in its batch
        assert later.images == (0 if ended else 3 * (STEPS + 1))
        assert worst.score[:2].tolist() == [0, 0] and worst.member[:2].tolist() == [1, 1]


def test_a_member_that_an_image_no_longer_needs_cannot_break_it() -> None:
    """Alone it would have ended before; the company that goes on must not change that."""
    lab = problem(2)
    lives = [0.0, 1e6]

    def worst_of(part: AttackProblem, lives: list[float]) -> Worst:
        members = [EnsembleMember(part.loss), EnsembleMember(lambda x: part.loss(x) * math.nan)]
        return run(part, members, f1_of(part, lives), lowest=0.0)

    together = worst_of(lab, lives)
    for row in range(2):
        alone = worst_of(lab.part([row]), [lives[row]])
        assert torch.equal(alone.image[0].isnan(), together.image[row].isnan())
    assert together.image[0].isfinite().all() and together.image[1].isnan().all()
