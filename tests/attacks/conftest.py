"""Fixtures over the table of attacks, one thread, and the way to ``attack_lab`` in importlib mode."""

import sys
from pathlib import Path

import pytest
import torch

# --import-mode=importlib does not put a test's folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from attack_lab import ATTACKS

from attacks.lab import AttackProblem, Candidate, upright_problem

torch.set_num_threads(1)


def _rows(rows: list[Candidate]) -> dict[str, list[object]]:
    return {"params": rows, "ids": [row.name for row in rows]}


@pytest.fixture(scope="session", **_rows(ATTACKS))
def attack(request: pytest.FixtureRequest) -> Candidate:
    return request.param


@pytest.fixture(scope="session", **_rows([row for row in ATTACKS if row.bounded]))
def bounded(request: pytest.FixtureRequest) -> Candidate:
    return request.param


@pytest.fixture(scope="session", **_rows([row for row in ATTACKS if row.queries is None]))
def white_box(request: pytest.FixtureRequest) -> Candidate:
    return request.param


@pytest.fixture(scope="session", **_rows([row for row in ATTACKS if row.iterative]))
def iterative(request: pytest.FixtureRequest) -> Candidate:
    return request.param


@pytest.fixture
def lab() -> AttackProblem:
    return upright_problem()
