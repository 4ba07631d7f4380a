"""Public functions refuse arguments of a wrong type in one line, before any work."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import Identity

import afbench
from afbench.argument_types import checks_arguments
from afbench.core import UsageError

NAMES = sorted(
    [name for name in (*afbench.__all__, "list") if inspect.isfunction(getattr(afbench, name))]
    + [f"train.{name}" for name in ("ansm", "hardened", "nrp")]
    + [f"weights.{name}" for name in ("add", "check", "remove")]
)
ANY = {"image", "mask", "localizer"}  # a picture or a localizer may be of any type
USABLE = {"function": print, "network": Identity(), "localizer": "reference", "gradients": 1}


class Odd:
    """What no argument can be."""


def _function(name):
    module, _, leaf = name.rpartition(".")
    return getattr(getattr(afbench, module) if module else afbench, leaf)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_function_names_the_argument_that_has_a_wrong_type(name):
    function = _function(name)
    parameters = inspect.signature(function).parameters
    required = {
        key: USABLE.get(key, "x")
        for key, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    for key in parameters.keys() - ANY:
        with pytest.raises(afbench.AfbenchError, match=rf"(?s)\A[^\n]*\b{key}\b[^\n]*\Z"):
            function(**{**required, key: Odd()})


@checks_arguments
def example(
    path: "str | Path",
    count: int = 1,
    names: "str | Sequence[str]" = (),
    ratio: "float | None" = None,
    flag: bool = False,
    kind: "Literal['a', 'b']" = "a",
    hook: "Callable[[int], None] | None" = None,
    table: "Mapping[str, int] | None" = None,
    net: "Unknown | None" = None,  # noqa: F821 (as a type that only type checkers import)
    text: str = "",
):
    return path, count, names, ratio, text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": None}, "path must be a path; found None"),
        ({"path": b"x"}, "path must be a path; found bytes"),
        ({"count": True}, "count must be a whole number; found True"),
        ({"count": 1.0}, "count must be a whole number; found float 1.0"),
        ({"names": 3}, "names must be a text or a list of them; found int 3"),
        ({"names": ["a", 3]}, "names must be a text or a list of them; found list of str, int"),
        ({"names": {"a": 1}}, "names must be a text or a list of them; found dict"),
        ({"ratio": "1"}, "ratio must be a number or None; found str '1'"),
        ({"flag": 1}, "flag must be True or False; found int 1"),
        ({"kind": 2}, "kind must be 'a' or 'b'; found int 2"),
        ({"hook": 2}, "hook must be a function or None; found int 2"),
        ({"table": 2}, "table must be a mapping or None; found int 2"),
    ],
)
def test_a_message_says_what_an_argument_must_be_and_what_it_is(arguments, message):
    with pytest.raises(UsageError) as error:
        example(**{"path": "x"} | arguments)
    assert str(error.value) == message


def test_what_may_stand_for_a_type_is_taken():
    path, count, names, ratio, text = example(
        Path("p"),
        np.int64(3),
        (name for name in "ab"),
        np.float32(0.5),
        np.bool_(True),
        net=3,
        text=Path("a/b"),
    )
    assert type(count) is int
    assert (path, count, list(names), ratio, text) == (Path("p"), 3, ["a", "b"], 0.5, "a/b")
    *_, device = example("p", text=torch.device("cuda:1"))
    assert device == "cuda:1"


def test_a_missing_argument_is_told_by_python():
    with pytest.raises(TypeError, match=r"example\(\) missing 1 required positional argument: 'path'"):
        example()
