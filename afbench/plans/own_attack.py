"""Make an attack of a user's own function, and load it by the name of the function that builds it. No torch here.

A plan needs its parameters and its cost, so naming one imports the user's module, which may import torch.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.crash import crash_line
from afbench.naming import resolve_name
from afbench.user_code import built_source_sha256, call_function, parse_function, source_sha256

from .attack_names import parse_attack
from .attack_spec import BUILD, SOURCE, Attack, Default
from .attacks import ATTACKS, OBJECTIVE
from .catalogue import FAMILY, PREFIX

_HANDED = ("phi", "uniform")
"""Keyword parameters that the engine fills; ``uniform`` makes an attack a random one."""
_RESERVED_NAMES = ("clean", "authentic", "all")
"""What configs and splits without an attack are called."""


@checks_arguments
def as_attack(
    function: Callable[..., Any],
    *,
    name: str,
    gradients: int | Callable[..., int],
    queries: int | Callable[..., int] = 0,
    summary: str = "a user's own",
    source: str = "a user's own attack",
) -> Attack:
    """Make an attack of a pure function in the signature of the attacks that ship.

    >>> import afbench
    >>> from attacks import input_gradient
    >>>
    >>> def halving(loss, image, *, phi, steps=4):  # loss: images to one number each, to be raised; phi: (N, 1, 1, 1)
    ...     attacked = image
    ...     for step in range(steps):
    ...         gradient = input_gradient(loss, attacked)
    ...         attacked = attacked + phi / 2**step * (gradient.sign() + 0 * gradient)  # NaN stays NaN
    ...         attacked = attacked.clamp(image - phi, image + phi).clamp(0, 1)
    ...     return attacked  # (N, 3, H, W) in the phi ball and [0, 1]; afbench rounds it to 8 bits
    >>>
    >>> def build():  # --attack my_package.my_module:build or ...:build:steps=8
    ...     return afbench.as_attack(halving, name="halving", gradients=lambda steps: steps)
    >>>
    >>> build().choices
    ('steps', 'loss', 'target', 'where')

    It has the parameters ``loss``, ``target`` and ``where``, too: they change the loss that it is handed.

    Args:
        function: takes the loss and images ``(N, 3, H, W)`` in [0, 1]; by keyword ``phi``, and parameters with defaults that
            ``--param`` sets. One that takes ``uniform`` gets a function from a draw's number to numbers ``(N, 3, H, W)`` in [-1, 1),
            keyed by sample, and must draw from nothing else.
        name: what configs and results call it.
        gradients: gradients per image, a number or a function of some of the parameters; plans count them, and a check compares.
        queries: forward passes per image without a gradient, in the same way.
        summary: one line.
        source: the paper, for the dataset card.
    Raises:
        UsageError: if the name is taken, a parameter has no plain default, or the function's source cannot be read.
    """
    _require_name(name)
    defaults: dict[str, Default] = {
        BUILD: "",
        SOURCE: source_sha256("attack", function),
        **_defaults(name, function),
    }
    return Attack(
        name,
        "phi",
        name,
        summary,
        source,
        defaults,
        optional=OBJECTIVE,
        fixed=(BUILD, SOURCE),
        function=function,
        gradients=_cost(name, "gradients", gradients, defaults),
        queries=_cost(name, "queries", queries, defaults),
        random="uniform" in inspect.signature(function).parameters,
    )


def find_attack(text: str) -> tuple[Attack, Mapping[str, Any]]:
    """Read what a user calls an attack, with the parameters given behind it; a user's own is imported.

    Raises:
        UsageError: if it is unknown or cannot be imported.
    """
    function = parse_function(text)
    if function is None or text.partition(":")[0].lower() == FAMILY:
        name, params = parse_attack(text)
        return ATTACKS[name], params
    return load_own_attack(function.path), function.arguments


def load_own_attack(path: str) -> Attack:
    """Call a user's ``build()``; the attack records the function's path.

    Raises:
        UsageError: if it cannot be imported or called, or returns no attack.
    """
    attack = call_function("attack", path)
    if not isinstance(attack, Attack) or attack.function is None:
        raise UsageError(
            f"attack '{path}' gave a {type(attack).__name__}; return afbench.as_attack(function, name=...)"
        )
    return attack.built_by(path, built_source_sha256("attack", attack.function, path))


def _require_name(name: str) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,29}", name):
        raise UsageError(f"the name of an attack must be 1 to 30 of a-z, 0-9 and _; found {name!r}")
    if name.startswith(PREFIX) or name in _RESERVED_NAMES or resolve_name("attack", name, ATTACKS):
        raise UsageError(
            f"the name '{name}' would look like an attack of afbench; choose another, e.g. my_{name}"
        )


def _defaults(name: str, function: Callable[..., Any]) -> dict[str, Default]:
    """Read the parameters that a user may set from the function's signature."""
    keywords = list(inspect.signature(function).parameters.values())[2:]
    if "phi" not in {keyword.name for keyword in keywords}:
        raise UsageError(
            f"attack '{name}' must take phi by keyword, as in attack(loss, image, *, phi, steps=10)"
        )
    defaults: dict[str, Default] = {}
    for keyword in keywords:
        if keyword.name in _HANDED:
            continue
        if type(keyword.default) not in (int, float, bool, str):
            raise UsageError(
                f"parameter {keyword.name} of attack '{name}' needs a default that is a number, a text, true or false"
            )
        if keyword.name in (*OBJECTIVE, BUILD, SOURCE):
            raise UsageError(f"parameter {keyword.name} of attack '{name}' has another meaning; rename it")
        defaults[keyword.name] = keyword.default
    return defaults


def _cost(
    name: str, kind: str, cost: int | Callable[..., int], defaults: Mapping[str, Default]
) -> Callable[[Mapping[str, Any]], int]:
    """Return a function from all parameters to passes per image, tried with the defaults."""
    if not callable(cost):
        passes = _whole(name, kind, cost)
        return lambda params: passes
    names = list(inspect.signature(cost).parameters)
    if unknown := set(names) - set(defaults):
        raise UsageError(f"{kind} of attack '{name}' depend on '{min(unknown)}', which is no parameter of it")

    def count(params: Mapping[str, Any]) -> int:
        try:
            value = cost(**{key: params[key] for key in names})
        except Exception as error:  # code that is not ours
            raise UsageError(f"{kind} of attack '{name}' cannot be counted ({crash_line(error)})") from error
        return _whole(name, kind, value)

    count(defaults)
    return count


def _whole(name: str, kind: str, passes: Any) -> int:
    if isinstance(passes, bool) or not isinstance(passes, (int, float)) or not 0 <= passes == passes // 1:
        raise UsageError(f"{kind} of attack '{name}' must be a whole number from 0 up; found {passes!r}")
    return int(passes)
