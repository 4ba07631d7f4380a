"""What must not depend on image size, threads, gradient scale or precision, and how often the host waits."""

from typing import Any

import pytest
import torch
from attack_lab import linear
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from attacks import LossFn
from attacks.lab import Candidate, problem
from attacks.sign import l1_unit


def away_from(target: Tensor) -> LossFn:
    """Make a loss of exactly rounded operations, which no vector width changes."""
    return lambda x: (x - target.repeat(len(x) // len(target), 1, 1, 1)).square().sum((1, 2, 3))


@settings(max_examples=12)
@given(size=st.integers(1, 9), each=st.integers(0, 3))
def test_an_image_of_any_size_does_not_depend_on_its_batch(attack: Candidate, size: int, each: int) -> None:
    lab, target = problem(4, size=size), problem(4, size=size, seed=1).image
    together = attack.run(away_from(target), lab.image, lab.phi(2), lab.keys, 3)
    lone = lab.part([each])
    alone = attack.run(away_from(target[[each]]), lone.image, lone.phi(2), lone.keys, 3)
    assert torch.equal(alone[0], together[each])


def test_the_l1_norm_does_not_depend_on_the_batch_or_the_threads() -> None:
    # Summed over all axes at once, a lone image of this size is split between threads and a batch is not.
    gradient = torch.randn(2, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        expected = l1_unit(gradient)
        torch.set_num_threads(2)
        assert torch.equal(l1_unit(gradient), expected)
        assert torch.equal(l1_unit(gradient[:1]), expected[:1])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30])
def test_a_tiny_or_huge_gradient_is_no_obstacle(attack: Candidate, scale: float) -> None:
    lab = problem(2)
    attacked = attack.run(linear(torch.full_like(lab.image, scale)), lab.image, lab.phi(1), lab.keys, 10)
    assert attacked.isfinite().all()
    if attack.bounded and attack.queries is None:
        expected = (lab.image + 1 / 255).clamp(max=1)
        assert torch.allclose(attacked, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_images_are_attacked_in_float32(attack: Candidate, dtype: torch.dtype) -> None:
    lab = problem(2)
    seen: set[torch.dtype] = set()

    def loss(x: Tensor) -> Tensor:
        seen.add(x.dtype)
        return lab.loss(x.double())

    attacked = attack.run(loss, lab.image.to(dtype), lab.phi(1), lab.keys, 2)
    assert attacked.dtype == torch.float32
    assert seen == {torch.float32}


class CountWaits(TorchDispatchMode):
    """Count the operations whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        self.waits += func in (aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("steps", [1, 5])
def test_the_host_waits_for_the_device_once_whatever_the_steps(attack: Candidate, steps: int) -> None:
    lab = problem(2)
    with CountWaits() as counter:
        attack.run(lab.loss, lab.image, lab.phi(1), lab.keys, steps)
    assert counter.waits == 1


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_a_unit_gradient_has_norm_one_whatever_the_scale_and_zero_stays_zero(scale: float) -> None:
    gradient = torch.ones(2, 3, 4, 5, dtype=torch.float64) * scale
    gradient[1] = 0
    assert l1_unit(gradient).abs().sum((1, 2, 3)).tolist() == pytest.approx([1, 0], abs=1e-12)
