"""Fixtures over the table of attacks, one thread, and the way to ``attack_lab`` in importlib mode."""

import sys
from pathlib import Path

import pytest
import torch

# --import-mode=importlib does not put a test's folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from attack_lab import ATTACKS, Attack, Problem, problem

torch.set_num_threads(1)


def _rows(rows: list[Attack]) -> dict[str, list[object]]:
    return {"params": rows, "ids": [row.name for row in rows]}


@pytest.fixture(scope="session", **_rows(ATTACKS))
def attack(request: pytest.FixtureRequest) -> Attack:
    return request.param


@pytest.fixture(scope="session", **_rows([row for row in ATTACKS if row.bounded]))
def bounded(request: pytest.FixtureRequest) -> Attack:
    return request.param


@pytest.fixture(scope="session", **_rows([row for row in ATTACKS if row.queries is None]))
def white_box(request: pytest.FixtureRequest) -> Attack:
    return request.param


@pytest.fixture(
    scope="session", **_rows([row for row in ATTACKS if not row.one_step and row.queries is None])
)
def iterative(request: pytest.FixtureRequest) -> Attack:
    return request.param


@pytest.fixture
def lab() -> Problem:
    """Three images that are not square, with keys of every kind.

    Pixels are a multiple of 16: torch's vector loops hand what is left over to scalar code, which rounds
    ``softplus`` otherwise, so that the last bit of a gradient would depend on an image's place in the batch.
    """
    square = problem(3)
    keys = torch.tensor([11, -5, 2**40])
    image, mask = square.image[..., :8].contiguous(), square.mask[..., :8].contiguous()
    return Problem(image, mask, keys, square.localizer)
