"""The properties that every attack must have; the tests of the attacks that ship and ``afbench check-attack`` use the same."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attacks.draws import signs
from attacks.gradient import LossFn
from attacks.lab import AttackProblem, Candidate, Counted, shape_of, to_levels, upright_problem
from attacks.sign import fgsm, noise

Check = Callable[[Candidate, AttackProblem], str]
"""Try an attack on a problem; return what is wrong, or an empty text."""


@dataclass(frozen=True)
class Property:
    """A promise as a sentence about the attack, and how it is tried; ``applies`` says of which attacks it is asked."""

    name: str
    check: Check
    applies: Callable[[Candidate], bool] = lambda candidate: True

    def problem_of(self, candidate: Candidate) -> str:
        """Try an attack; return what is wrong, or an empty text."""
        return self.check(candidate, upright_problem())


def _run(candidate: Candidate, lab: AttackProblem, levels: float = 2, steps: int = 4) -> Tensor:
    return candidate.run(lab.loss, lab.image, lab.phi(levels), lab.keys, steps)


def _loss_of(lab: AttackProblem, image: Tensor) -> Tensor:
    return lab.loss(image).detach()


def _raises_loss(candidate: Candidate, lab: AttackProblem) -> str:
    rise = _loss_of(lab, _run(candidate, lab, levels=1, steps=10)) - _loss_of(lab, lab.image)
    return (
        ""
        if bool((rise > 0).all())
        else f"at one level the loss of an image changes by {float(rise.min()):.3g}"
    )


def _keeps_range(candidate: Candidate, lab: AttackProblem) -> str:
    for dtype in (torch.float64, torch.float32):
        image = lab.image.to(dtype)
        attacked = candidate.run(lambda x: lab.loss(x.double()), image, lab.phi(3).to(dtype), lab.keys, 3)
        if attacked.shape != image.shape or attacked.dtype != dtype:
            return f"{dtype} {tuple(image.shape)} became {attacked.dtype} {tuple(attacked.shape)}"
        low, high = attacked.aminmax()
        if not bool((low >= 0) & (high <= 1)):
            return f"values from {float(low):.3g} to {float(high):.3g}"
    return ""


def _keeps_ball(candidate: Candidate, lab: AttackProblem) -> str:
    for levels in (1, 2, 3):
        phi = lab.phi(levels)
        attacked = _run(candidate, lab, levels, steps=10)
        distance = float((attacked - lab.image).abs().max())
        if not distance <= levels / 255 + 1e-15:
            return f"at {levels}/255 a value moved by {255 * distance:.4g}/255"
        rounded = to_levels(attacked, lab.image)
        if not torch.equal(rounded, to_levels(attacked, lab.image, phi)):
            return f"at {levels}/255 rounding to 8 bits leaves the ball"
        if float((rounded - (255 * lab.image).round()).abs().max()) != levels:
            return f"at {levels}/255 no value moves by {levels} whole levels: phi is not used"
    return ""


def ball_problem(candidate: Candidate, levels: float, seed: int, *, single: bool) -> str:
    """Attack random images of 4x5 pixels under another loss; say whether a value leaves the ball or [0, 1]."""
    image = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed)) * 1.2 - 0.1
    image = image.clamp(0, 1).to(torch.float32 if single else torch.float64)
    phi = torch.full((2, 1, 1, 1), levels / 255, dtype=image.dtype)
    attacked = candidate.run(_waves, image, phi, torch.tensor([seed, 1]), 3)
    low, high = attacked.aminmax()
    excess = float((attacked - image).abs().max()) - levels / 255
    if bool((low >= 0) & (high <= 1)) and excess <= torch.finfo(image.dtype).eps:
        return ""
    return f"at {levels:.3g}/255 values from {float(low):.3g} to {float(high):.3g}, {excess:.3g} beyond phi"


def _keeps_any_ball(candidate: Candidate, lab: AttackProblem) -> str:
    draws = ((0.5, 3, True), (1.7, 5, False), (8.0, 7, True), (30.0, 9, False))
    problems = (ball_problem(candidate, levels, seed, single=single) for levels, seed, single in draws)
    return next((problem for problem in problems if problem), "")


def _stays_without_radius(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = _run(candidate, lab, levels=0)
    return "" if torch.equal(attacked, lab.image) else "the image changed"


def _ignores_batch(candidate: Candidate, lab: AttackProblem) -> str:
    batch_result = _run(candidate, lab)
    order = [2, 0, 1]
    if not torch.equal(_run(candidate, lab.part(order)), batch_result[order]):
        return "another order of the batch gives other pixels"
    for index in range(len(lab.image)):
        if not torch.equal(_run(candidate, lab.part([index])), batch_result[[index]]):
            return "an image alone gets other pixels than in a batch"
    return ""


def _takes_several_phi(candidate: Candidate, lab: AttackProblem) -> str:
    phi = torch.cat([lab.phi(levels) for levels in (1, 2, 3)])
    joint = candidate.run(lab.loss, lab.image.repeat(3, 1, 1, 1), phi, lab.keys.repeat(3), 4)
    alone = torch.cat([_run(candidate, lab, levels) for levels in (1, 2, 3)])
    return "" if torch.equal(joint, alone) else "a batch of 1, 2 and 3 levels differs from three runs"


def _shows_broken_neighbour(candidate: Candidate, lab: AttackProblem) -> str:
    def weighted(*weights: float) -> Tensor:
        weight = torch.tensor(weights, dtype=torch.float64)
        return candidate.run(
            lambda x: lab.loss(x) * weight.repeat(len(x) // 3), lab.image, lab.phi(2), lab.keys, 3
        )

    healthy, broken = weighted(1, 1, 1), weighted(1, math.nan, 1)
    if not torch.equal(healthy[::2], broken[::2]):
        return "an image whose loss is NaN changes its neighbours"
    return "" if bool(broken[1].isnan().all()) else "an image whose loss is NaN comes out as numbers"


def _shows_infinite_gradient(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = candidate.run(lambda x: (x * math.inf).sum((1, 2, 3)), lab.image, lab.phi(1), lab.keys, 3)
    return "" if bool(attacked.isnan().all()) else "an infinite gradient comes out as numbers"


def _survives_zero_gradient(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = candidate.run(lambda x: 0 * x.sum((1, 2, 3)), lab.image, lab.phi(2), lab.keys, 3)
    if not bool(attacked.isfinite().all()):
        return "values that are not finite"
    return "" if candidate.random or torch.equal(attacked, lab.image) else "the image moved all the same"


def _moves_after_zero_gradient(candidate: Candidate, lab: AttackProblem) -> str:
    counted = Counted(lab.loss)
    flat = 2 * candidate.gradients(1) * len(lab.image)

    def flat_for_two_steps(x: Tensor) -> Tensor:
        return counted(x) * (counted.images > flat)

    attacked = candidate.run(flat_for_two_steps, lab.image, lab.phi(2), lab.keys, 6)
    inside = (lab.image > 0) & (lab.image < 1)
    share = float((attacked != lab.image)[inside].double().mean())
    if not bool(attacked.isfinite().all()) or share <= 0.9:
        return f"{100 * share:.0f} % of the values moved"
    return "" if bool((lab.loss(attacked) > lab.loss(lab.image)).all()) else "the loss did not rise"


def _touches_nothing(candidate: Candidate, lab: AttackProblem) -> str:
    localizer = lab.localizer
    for parameter in localizer.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    state, image, phi, keys = copy.deepcopy((localizer.state_dict(), lab.image, lab.phi(2), lab.keys))
    attacked = candidate.run(lab.loss, lab.image, phi, lab.keys, 3)
    with torch.no_grad():
        repeated = candidate.run(lab.loss, lab.image, phi, lab.keys, 3)
        mode_kept = not torch.is_grad_enabled()
    kept = {
        "the localizer's state": all(
            torch.equal(value, state[name]) for name, value in localizer.state_dict().items()
        ),
        "the gradients of the localizer's parameters": all(
            bool((parameter.grad == 7).all()) and parameter.requires_grad
            for parameter in localizer.parameters()
            if parameter.grad is not None
        ),
        "the localizer's mode": not any(module.training for module in localizer.modules()),
        "its inputs": torch.equal(lab.image, image)
        and torch.equal(lab.keys, keys)
        and torch.equal(phi, lab.phi(2)),
        "the image's gradient": not lab.image.requires_grad and lab.image.grad is None,
        "the gradient mode": mode_kept and torch.is_grad_enabled(),
    }
    if changed_parts := [part for part, is_kept in kept.items() if not is_kept]:
        return f"it changes {changed_parts[0]}"
    if attacked.requires_grad:
        return "its result requires a gradient; detach it"
    return "" if torch.equal(repeated, attacked) else "under no_grad it gives other pixels"


def _repeats(candidate: Candidate, lab: AttackProblem) -> str:
    single = AttackProblem(lab.image.float(), lab.mask, lab.keys, copy.deepcopy(lab.localizer).float())
    first, second = _run(candidate, single), _run(candidate, single)
    return "" if first.numpy().tobytes() == second.numpy().tobytes() else "two runs give other pixels"


def _beats_one_step(candidate: Candidate, lab: AttackProblem) -> str:
    one_step = fgsm(lab.loss, lab.image, phi=lab.phi(3))
    attacked = _run(candidate, lab, levels=3, steps=20)
    # the same ball for all: an attack without one may not win by going further
    attacked = torch.clamp(attacked, lab.image - 3 / 255, lab.image + 3 / 255)
    clean = _loss_of(lab, lab.image)
    share = 0.95 if candidate.weighted else 1.0
    margin = _loss_of(lab, attacked) - clean - share * (_loss_of(lab, one_step) - clean)
    return "" if bool((margin >= 0).all()) else f"fgsm raises the loss by {-float(margin.min()):.3g} more"


def _grows_with_phi(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = [lab.image, *(_run(candidate, lab, levels, steps=10) for levels in (1, 2, 3))]
    return _growth_problem(torch.stack([_loss_of(lab, x) for x in attacked]), strictly=True)


def _grows_with_steps(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = [_run(candidate, lab, levels=3, steps=steps) for steps in (1, 5, 20)]
    return _growth_problem(torch.stack([_loss_of(lab, x) for x in attacked]), strictly=False)


def _growth_problem(losses: Tensor, *, strictly: bool) -> str:
    growth = losses.diff(dim=0)
    grows = (growth > 0) if strictly else (growth >= 0)
    return "" if bool(grows.all()) else f"the loss of an image changes by {float(growth.min()):.3g}"


def _beats_noise(candidate: Candidate, lab: AttackProblem) -> str:
    attacked = lab.loss(_run(candidate, lab, levels=1, steps=10))
    for offset in range(5):
        drawn_signs = signs(lab.keys + offset, shape_of(lab.image), 0)
        if not bool((lab.loss(noise(lab.image, signs=drawn_signs, phi=lab.phi(1))) < attacked).all()):
            return "random signs of one level raise the loss of an image as much"
    return ""


def _costs_what_it_says(candidate: Candidate, lab: AttackProblem) -> str:
    for steps in (1, 10):
        backward: list[int] = []
        counted = Counted(_watched(lab.loss, backward))
        candidate.run(counted, lab.image, lab.phi(1), lab.keys, steps)
        count = len(lab.image)
        expected = (
            candidate.gradients(steps),
            (candidate.queries or candidate.gradients)(steps) + candidate.looks,
        )
        measured = sum(backward) / count, counted.images / count
        if measured != expected:
            return (
                f"in {steps} steps it takes {measured[0]:g} gradients and {measured[1]:g} passes of an image; "
                f"declared are {expected[0]} and {expected[1]}"
            )
    return ""


def _watched(loss: LossFn, backward: list[int]) -> LossFn:
    def watched(x: Tensor) -> Tensor:
        if x.requires_grad:
            x.register_hook(lambda gradient: backward.append(len(gradient)))  # type: ignore[no-untyped-call]
        return loss(x)

    return watched


def _waves(x: Tensor) -> Tensor:
    return torch.sin(40 * x).sum((1, 2, 3))


def _is_bounded(candidate: Candidate) -> bool:
    return candidate.bounded


def _is_iterative(candidate: Candidate) -> bool:
    return candidate.iterative


PROPERTIES = (
    Property("raises the loss of every image", _raises_loss),
    Property("stays in [0, 1], and keeps shape and type", _keeps_range),
    Property("stays in the phi ball, and fills it in whole levels", _keeps_ball, _is_bounded),
    Property("stays in any ball around any image", _keeps_any_ball, _is_bounded),
    Property("leaves the image as it is at phi 0", _stays_without_radius, _is_bounded),
    Property("gives an image the same pixels in any batch", _ignores_batch),
    Property("gives several phi in one batch what each gets alone", _takes_several_phi),
    Property("shows a loss that is NaN, and keeps it from neighbours", _shows_broken_neighbour),
    Property("shows an infinite gradient", _shows_infinite_gradient, _is_bounded),
    Property("leaves an image finite whose gradient is zero", _survives_zero_gradient),
    Property("moves again after a zero gradient", _moves_after_zero_gradient, _is_iterative),
    Property("leaves localizer, inputs and gradient mode as they are", _touches_nothing),
    Property("gives the same bytes again", _repeats),
    Property("is at least as strong as one step", _beats_one_step, _is_iterative),
    Property("grows stronger with phi", _grows_with_phi, _is_bounded),
    Property("grows no weaker with steps", _grows_with_steps, _is_iterative),
    Property("beats random signs of the same phi", _beats_noise, _is_bounded),
    Property("costs the gradients and passes that it declares", _costs_what_it_says),
)
