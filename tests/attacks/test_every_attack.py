"""The properties every attack must have; a row in ``attack_lab.ATTACKS`` is enough to be tested."""

import inspect

import pytest
from attack_lab import ATTACKS
from hypothesis import given, settings
from hypothesis import strategies as st

import attacks
from attacks.lab import Candidate
from attacks.properties import PROPERTIES, Property, ball_problem

ROWS = [(promise, row) for promise in PROPERTIES for row in ATTACKS if promise.applies(row)]


def test_every_public_attack_is_in_the_table() -> None:
    named = {name: getattr(attacks, name) for name in attacks.__all__}
    first = {
        name: next(iter(inspect.signature(f).parameters))
        for name, f in named.items()
        if inspect.isfunction(f)
    }
    public = {name for name, argument in first.items() if argument in ("loss", "losses", "objective")}
    assert public - {"input_gradient"} == {row.name for row in ATTACKS}


@pytest.mark.parametrize(
    ("promise", "row"), ROWS, ids=[f"{row.name} {promise.name}" for promise, row in ROWS]
)
def test_an_attack(promise: Property, row: Candidate) -> None:
    assert promise.problem_of(row) == ""


@settings(max_examples=15)
@given(levels=st.floats(0.5, 30), seed=st.integers(0, 2**20), single=st.booleans())
def test_it_stays_in_any_ball_around_any_image(levels: float, seed: int, single: bool) -> None:
    for attack in (row for row in ATTACKS if row.bounded):
        assert ball_problem(attack, levels, seed, single=single) == ""
