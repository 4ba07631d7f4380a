"""The properties every attack must have; a row in ``attack_lab.ATTACKS`` is enough to be tested."""

import copy
import inspect
import math

import pytest
import torch
from attack_lab import ATTACKS, Attack, Counted, Problem, run_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import attacks
from afbench.images import quantise


def in_levels(attacked: Tensor, image: Tensor, max_levels: int | None = None) -> Tensor:
    """Give the stored difference in whole levels."""
    return quantise(attacked, image, max_levels).short() - quantise(image, image, None).short()


def run(attack: Attack, lab: Problem, levels: float = 2, steps: int = 4) -> Tensor:
    return attack.run(lab.loss, lab.image, lab.phi(levels), lab.keys, steps)


def test_every_public_attack_is_in_the_table() -> None:
    named = {name: getattr(attacks, name) for name in attacks.__all__}
    first = {
        name: next(iter(inspect.signature(f).parameters))
        for name, f in named.items()
        if inspect.isfunction(f)
    }
    public = {name for name, argument in first.items() if argument in ("loss", "losses", "objective")}
    assert public - {"input_gradient"} == {row.name for row in ATTACKS}


def test_it_raises_the_loss_of_every_image(attack: Attack, lab: Problem) -> None:
    attacked = run(attack, lab, levels=1, steps=10)
    assert (lab.loss(attacked) > lab.loss(lab.image)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_it_stays_in_the_unit_range_and_keeps_the_dtype(
    attack: Attack, lab: Problem, dtype: torch.dtype
) -> None:
    attacked = attack.run(lambda x: lab.loss(x.double()), lab.image.to(dtype), lab.phi(3), lab.keys, 3)
    assert attacked.shape == lab.image.shape and attacked.dtype == dtype
    assert attacked.min() >= 0 and attacked.max() <= 1


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_stays_in_the_ball_in_whole_levels(bounded: Attack, lab: Problem, levels: int) -> None:
    attacked = run(bounded, lab, levels, steps=10)
    assert ((attacked - lab.image).abs() <= levels / 255 + 1e-15).all()
    free = in_levels(attacked, lab.image)
    assert free.abs().max() == levels
    assert torch.equal(in_levels(attacked, lab.image, levels), free)


@settings(max_examples=15)
@given(levels=st.floats(0.5, 30), seed=st.integers(0, 2**20), single=st.booleans())
def test_it_stays_in_any_ball_around_any_image(levels: float, seed: int, single: bool) -> None:
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1
    image = image.clamp(0, 1).to(torch.float32 if single else torch.float64)
    phi = torch.full((2, 1, 1, 1), levels / 255, dtype=image.dtype)
    for attack in (row for row in ATTACKS if row.bounded):
        attacked = attack.run(
            lambda x: torch.sin(40 * x).sum((1, 2, 3)), image, phi, torch.tensor([seed, 1]), 3
        )
        assert attacked.min() >= 0 and attacked.max() <= 1
        assert (attacked - image).abs().max() <= levels / 255 + torch.finfo(image.dtype).eps


def test_an_image_does_not_depend_on_its_batch(attack: Attack, lab: Problem) -> None:
    together = run(attack, lab)
    order = [2, 0, 1]
    assert torch.equal(run(attack, lab.part(order)), together[order])
    for index in range(3):
        assert torch.equal(run(attack, lab.part([index])), together[[index]])


def test_several_phi_in_one_batch_equal_separate_runs(attack: Attack, lab: Problem) -> None:
    phi = torch.cat([lab.phi(levels) for levels in (1, 2, 3)])
    many = attack.run(lab.loss, lab.image.repeat(3, 1, 1, 1), phi, lab.keys.repeat(3), 4)
    assert torch.equal(many, torch.cat([run(attack, lab, levels) for levels in (1, 2, 3)]))


def test_a_broken_neighbour_is_not_hidden_and_harms_no_other(attack: Attack, lab: Problem) -> None:
    def weighted(*weights: float) -> Tensor:
        weight = torch.tensor(weights, dtype=torch.float64)
        return attack.run(
            lambda x: lab.loss(x) * weight.repeat(len(x) // 3), lab.image, lab.phi(2), lab.keys, 3
        )

    healthy, broken = weighted(1, 1, 1), weighted(1, math.nan, 1)
    assert torch.equal(healthy[::2], broken[::2])
    assert broken[1].isnan().all()


def test_an_infinite_gradient_is_not_hidden(bounded: Attack, lab: Problem) -> None:
    attacked = bounded.run(lambda x: (x * math.inf).sum((1, 2, 3)), lab.image, lab.phi(1), lab.keys, 3)
    assert attacked.isnan().all()


def test_an_always_zero_gradient_leaves_the_image_finite(attack: Attack, lab: Problem) -> None:
    attacked = attack.run(lambda x: 0 * x.sum((1, 2, 3)), lab.image, lab.phi(2), lab.keys, 3)
    assert attacked.isfinite().all()
    assert attack.random or torch.equal(attacked, lab.image)


def test_it_moves_again_after_a_zero_gradient(iterative: Attack, lab: Problem) -> None:
    counted = Counted(lab.loss)
    flat = 2 * iterative.gradients(1) * len(lab.image)

    def flat_for_two_steps(x: Tensor) -> Tensor:
        return counted(x) * (counted.images > flat)

    attacked = iterative.run(flat_for_two_steps, lab.image, lab.phi(2), lab.keys, 6)
    inside = (lab.image > 0) & (lab.image < 1)
    assert attacked.isfinite().all() and (attacked != lab.image)[inside].double().mean() > 0.9
    assert (lab.loss(attacked) > lab.loss(lab.image)).all()


def test_it_leaves_model_inputs_and_gradient_mode_untouched(attack: Attack, lab: Problem) -> None:
    localizer = lab.localizer
    for parameter in localizer.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    state, image, phi, keys = copy.deepcopy((localizer.state_dict(), lab.image, lab.phi(2), lab.keys))
    attacked = attack.run(lab.loss, lab.image, phi, lab.keys, 3)
    assert all(torch.equal(value, state[name]) for name, value in localizer.state_dict().items())
    assert all(
        (parameter.grad == 7).all() and parameter.requires_grad for parameter in localizer.parameters()
    )
    assert not any(module.training for module in localizer.modules())
    assert torch.equal(lab.image, image) and torch.equal(lab.keys, keys) and torch.equal(phi, lab.phi(2))
    assert not lab.image.requires_grad and lab.image.grad is None and not attacked.requires_grad
    with torch.no_grad():
        again = attack.run(lab.loss, lab.image, phi, lab.keys, 3)
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled() and torch.equal(again, attacked)


def test_the_same_inputs_give_the_same_bytes_in_float32(attack: Attack, lab: Problem) -> None:
    single = Problem(lab.image.float(), lab.mask, lab.keys, copy.deepcopy(lab.localizer).float())
    assert run(attack, single).numpy().tobytes() == run(attack, single).numpy().tobytes()


def test_an_iterative_attack_is_at_least_as_strong_as_one_step(iterative: Attack, lab: Problem) -> None:
    one = attacks.fgsm(lab.loss, lab.image, phi=lab.phi(3))
    many = run(iterative, lab, levels=3, steps=20)
    # The same ball for all: an attack without one may not win by going further.
    many = torch.clamp(many, lab.image - 3 / 255, lab.image + 3 / 255)
    clean = lab.loss(lab.image)
    share = 0.95 if iterative.weighted else 1.0
    assert (lab.loss(many) - clean >= share * (lab.loss(one) - clean)).all()


def test_a_stronger_phi_never_helps_the_defender(bounded: Attack, lab: Problem) -> None:
    attacked = [lab.image, *(run(bounded, lab, levels, steps=10) for levels in (1, 2, 3))]
    assert (torch.stack([lab.loss(x) for x in attacked]).diff(dim=0) > 0).all()


def test_more_steps_never_help_the_defender(iterative: Attack, lab: Problem) -> None:
    attacked = [run(iterative, lab, levels=3, steps=steps) for steps in (1, 5, 20)]
    assert (torch.stack([lab.loss(x) for x in attacked]).diff(dim=0) >= 0).all()


def test_random_signs_of_the_same_phi_are_weaker(bounded: Attack, lab: Problem) -> None:
    attacked = lab.loss(run(bounded, lab, levels=1, steps=10))
    for offset in range(5):
        assert (lab.loss(run_noise(lab.image, lab.phi(1), lab.keys + offset)) < attacked).all()


@pytest.mark.parametrize("steps", [1, 10])
def test_it_costs_the_gradients_or_queries_it_promises(attack: Attack, lab: Problem, steps: int) -> None:
    backward: list[int] = []

    def watched(x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: backward.append(len(gradient)))
        return lab.loss(x)

    counted = Counted(watched)
    attack.run(counted, lab.image, lab.phi(1), lab.keys, steps)
    forward = (attack.queries or attack.gradients)(steps) + attack.looks
    assert counted.images == forward * len(lab.image)
    assert sum(backward) == attack.gradients(steps) * len(lab.image)
