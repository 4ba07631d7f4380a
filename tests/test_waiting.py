"""Inside the loop of an attack nothing waits for the device: no value is looked at, none is fetched.

``strong`` asks once after each of its runs whether an image is left to attack: between two loops, not inside one.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from afbench.core import Setting
from afbench.engine import grid
from afbench.engine.grid import AttackBatch, attack_batch
from afbench.engine.meter import Meter
from afbench.plans import ATTACKS, CLASSES, expand_attack
from afbench.plans.ensemble import RUNS

OURS = [name for name in ATTACKS if name not in CLASSES]
FETCHES = ("cpu", "numpy", "tolist", "item", "nonzero", "unique", "masked_select", "equal")


@dataclass(frozen=True)
class Lab:
    """A localizer by hand."""

    logits: Callable[[Tensor], Tensor]
    name: str = "lab"
    threshold: float = 0.5
    weights_sha256: str = "0" * 64

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


def _logits(image: Tensor) -> Tensor:
    return F.conv2d(image - 0.5, torch.ones(1, 3, 3, 3, device=image.device), padding=1)


class Looks(TorchDispatchMode):
    """Counts what makes a GPU wait: a value that Python reads, or a result whose size depends on values."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if name in ("index", "index_put", "index_put_") else ()
        by_values = any(isinstance(one, Tensor) and one.dtype == torch.bool for one in chosen)
        if name == "_local_scalar_dense" or name in FETCHES or by_values:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


class Fetches(TorchFunctionMode):
    """Counts what would fetch a tensor from a GPU, which on a CPU does nothing."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in FETCHES or (name == "to" and "cpu" in map(str, [*args[1:], *kwargs.values()])):
            self.counts[name] += 1
        return func(*args, **kwargs)


def _batch(device: str = "cpu") -> AttackBatch:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.zeros(2, 1, 16, 16, device=device)
    mask[..., 4:12, 4:12] = 1
    return AttackBatch(["one", "two"], image, mask)


def _settings(attack: str, loops: int) -> list[Setting]:
    """The attack with that many rounds of its loop."""
    if attack == "cw":
        return list(expand_attack("cw", steps=[loops]))
    rounds = {name: loops for name in ("steps", "queries") if name in ATTACKS[attack].parameters}
    return list(expand_attack(attack, phi=["2/255"], params=rounds))


def _counted(settings: Sequence[Setting], localizer: Lab) -> Counter[str]:
    counts: Counter[str] = Counter()
    batch = _batch()
    with Looks(counts), Fetches(counts):
        list(attack_batch(localizer, batch, settings, seed=0, batch_size=8, meter=Meter()))
    return counts


def _between_loops(attack: str) -> int:
    """How often an attack may look at a value after its first pass, whatever its steps."""
    return len(RUNS) if attack == "strong" else 0


@pytest.mark.parametrize("attack", OURS)
def test_no_attack_looks_at_a_value_in_its_loop(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for loops in (3, 9):
        monkeypatch.setattr(grid, "STEPS", loops)
        counts.append(_counted(_settings(attack, loops), Lab(_logits)))
    few, many = counts
    assert few == many
    # at its entry the image is checked
    assert sum(few.values()) <= 2 + _between_loops(attack)


@pytest.mark.parametrize("attack", sorted(grid._ATTACKS))
def test_no_attack_looks_at_a_value_after_its_first_pass(
    attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    looks_before_pass: list[int] = []
    late_looks: list[int] = []

    def logits(image: Tensor) -> Tensor:
        looks_before_pass.append(counts.total())
        return _logits(image)

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any) -> Any:
            looks_before_pass.clear()
            result = run(*given)
            late_looks.append(counts.total() - looks_before_pass[0] if looks_before_pass else 0)
            return result

        return inner

    monkeypatch.setattr(grid, "_ATTACKS", {name: watched(run) for name, run in grid._ATTACKS.items()})
    with Looks(counts):
        list(attack_batch(Lab(logits), _batch(), _settings(attack, 3), seed=0, batch_size=8, meter=Meter()))
    assert late_looks
    assert max(late_looks) <= _between_loops(attack)


@pytest.mark.parametrize(
    "look",
    [
        lambda image: float(image.detach().sum()),
        lambda image: bool((image > 0).any()),
        lambda image: image.detach().cpu(),
        lambda image: image.detach().to("cpu"),
        lambda image: image[image > 0],
        lambda image: image.tolist(),
    ],
    ids=["float", "bool", "cpu", "to", "mask", "tolist"],
)
def test_a_localizer_that_looks_would_be_noticed(look: Callable[[Tensor], Any]) -> None:
    def logits(image: Tensor) -> Tensor:
        look(image)
        return _logits(image)

    few, many = (_counted(_settings("bim", loops), Lab(logits)) for loops in (3, 9))
    assert few != many


@pytest.mark.gpu
@pytest.mark.parametrize("attack", OURS)
def test_no_attack_waits_for_the_gpu_in_its_loop(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its first look at the localizer to its last, any wait is an error."""
    settings = _settings(attack, 5)
    _logits(_batch("cuda").image)  # cuDNN's own first time

    def logits(image: Tensor) -> Tensor:
        torch.cuda.set_sync_debug_mode("error")
        return F.conv2d(image - 0.5, weight, padding=1)

    def guarded(run: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*given: Any) -> Any:
            try:
                return run(*given)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return inner

    def allowed(ask: Callable[[Tensor], bool]) -> Callable[[Tensor], bool]:
        def inner(rows: Tensor) -> bool:
            torch.cuda.set_sync_debug_mode("default")
            return ask(rows)

        return inner

    weight = torch.ones(1, 3, 3, 3, device="cuda")
    # the next pass forbids waiting again
    ensemble = sys.modules["attacks.strong"]
    monkeypatch.setattr(ensemble, "any_of", allowed(ensemble.any_of))
    monkeypatch.setattr(grid, "_ATTACKS", {name: guarded(run) for name, run in grid._ATTACKS.items()})
    monkeypatch.setattr(grid.attacks, "input_gradient", guarded(grid.attacks.input_gradient))
    try:
        done = attack_batch(Lab(logits), _batch("cuda"), settings, seed=0, batch_size=8, meter=Meter())
        images = [one.image for one in done]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(torch.isfinite(image).all()) for image in images)
