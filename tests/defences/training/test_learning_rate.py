"""How the learning rate moves over a stage, by its closed form."""

import math
from functools import partial

import pytest
import torch

from afbench.defences.training.learning_rate import annealing, plateau, warm_cosine

PEAK, STEPS = 0.1, 20


def rates(schedule, losses=()):
    """Return the rate of each step of a stage, and after each epoch of the given losses."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([weight], lr=PEAK)
    rate = schedule(optimiser, STEPS)
    by_step, by_epoch = [], []
    for step in range(STEPS):
        rate.before_step(step)
        by_step.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        rate.after_step()
    for loss in losses:
        rate.after_epoch(loss)
        by_epoch.append(optimiser.param_groups[0]["lr"])
    return by_step, by_epoch


@pytest.mark.parametrize("schedule", [partial(warm_cosine, warmup=0), annealing])
def test_a_cosine_falls_from_the_peak_to_nothing(schedule):
    by_step, _ = rates(schedule)
    assert by_step == pytest.approx(
        [PEAK * 0.5 * (1 + math.cos(math.pi * step / STEPS)) for step in range(STEPS)]
    )


def test_a_warm_cosine_rises_over_its_first_steps():
    by_step, _ = rates(partial(warm_cosine, warmup=4))
    plain, _ = rates(partial(warm_cosine, warmup=0))
    assert [warm / cold for warm, cold in zip(by_step, plain, strict=True)] == pytest.approx(
        [0.25, 0.5, 0.75] + [1.0] * 17
    )


def test_a_plateau_lowers_the_rate_after_ten_epochs_without_progress():
    by_step, by_epoch = rates(plateau, losses=[1.0] * 13)
    assert by_step == [PEAK] * STEPS
    assert by_epoch == pytest.approx([PEAK] * 11 + [0.9 * PEAK] * 2)
