"""Check the arguments of public functions against their annotations, so that a wrong type is named and not met deep inside."""

from __future__ import annotations

import builtins
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from afbench.core import UsageError

P = ParamSpec("P")
R = TypeVar("R")

_ACCEPTED: Mapping[Any, tuple[type, ...]] = {
    str: (str, os.PathLike),
    Path: (os.PathLike,),
    int: (Integral,),
    float: (Real,),
}
"""What may stand for a type: a path for a text, and NumPy's numbers for Python's."""
_MAX_SHOWN = 40
"""Characters of a value that a message shows."""
_WORDS = {
    str: "a text",
    Path: "a path",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
}


class _Names(dict[str, Any]):
    """The names of a module; a name that only type checkers import stands for any type."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def checks_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function refuse arguments that its annotations don't allow.

    Types that are imported for type checkers alone are not checked. A path becomes a text where a text is asked for, and what can
    be iterated, such as a generator or an array, becomes a list.

    Raises:
        UsageError: of the returned function, which names the argument, what it must be, and what it is.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # an argument too many or too few: Python says which
        for name, value in bound.arguments.items():
            bound.arguments[name] = checked_value(function, name, value)
        return function(*bound.args, **bound.kwargs)

    return checked


def checked_value(function: Callable[..., Any], name: str, value: object) -> object:
    """Return what a function's parameter takes for a value.

    Raises:
        UsageError: if its annotation does not allow it.
    """
    hint = _hint(function, name)
    converted = _converted(value, _choices(hint))
    if not _fits(converted, hint):
        raise UsageError(f"{name} must be {_in_words(hint)}; found {_shown(value)}")
    return converted


@cache
def _hint(function: Callable[..., Any], name: str) -> Any:
    annotation = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    try:
        return get_type_hints(annotation, localns=_Names(function.__globals__))[name]
    except AttributeError:  # of a module that only type checkers import
        return Any


def _converted(value: object, choices: Sequence[Any]) -> object:
    """Return a value as its type asks for it: a path or torch's device as a text, a value of NumPy as Python's, an iterator or array as a list."""
    if isinstance(value, os.PathLike) and str in choices and Path not in choices:
        return os.fspath(value)
    if isinstance(value, Integral) and int in choices and not isinstance(value, bool):
        return int(value)
    # torch and NumPy are not loaded to look at an argument
    kind = f"{type(value).__module__}.{type(value).__name__}"
    if kind == "torch.device" and str in choices:
        return str(value)
    if kind in ("numpy.bool_", "numpy.bool") and bool in choices:
        return bool(value)
    if isinstance(value, Iterable) and not isinstance(value, Sequence | Mapping):
        return list(value) if any(map(_is_list_hint, choices)) else value
    return value


def _fits(value: object, hint: Any) -> bool:
    choices, origin = _choices(hint), _origin(hint)
    if len(choices) > 1:
        return any(_fits(value, choice) for choice in choices)
    if _is_list_hint(hint):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            return False
        return all(_fits(item, get_args(hint)[0]) for item in value)
    if origin is Callable or origin is Mapping:
        return callable(value) if origin is Callable else isinstance(value, Mapping)
    # a function knows by itself which texts it takes
    accepted = _ACCEPTED.get(str if origin is Literal else hint, hint)
    if hint is Any or getattr(hint, "_is_protocol", False) or not isinstance(accepted, type | tuple):
        return True
    # True is 1 in Python, but no number
    return isinstance(value, accepted) and not (hint in (int, float) and isinstance(value, bool))


def _is_list_hint(hint: Any) -> bool:
    return _origin(hint) in (Sequence, tuple)


def _origin(hint: Any) -> Any:
    """Return ``Sequence`` of ``Sequence[str]``; ``get_origin`` as of any type, since its own types forbid such comparisons."""
    return get_origin(hint)


def _choices(hint: Any) -> tuple[Any, ...]:
    """List the types that a hint allows, itself if it is no union."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _in_words(hint: Any) -> str:
    choices, words = _choices(hint), list[str]()
    # a list comes last: of all that may also stand alone
    for choice in sorted(choices, key=lambda choice: _origin(choice) is Sequence):
        origin = _origin(choice)
        if origin is Sequence:
            words.append("a list of them" if words else "a list")
        elif origin is tuple:
            words.append(f"{len(get_args(choice))} values")
        elif origin is Literal:
            words.append(" or ".join(map(repr, get_args(choice))))
        elif origin is Mapping or origin is Callable:
            words.append("a mapping" if origin is Mapping else "a function")
        elif choice is not str or Path not in choices:  # a path may be written as a text
            words.append(_WORDS.get(choice) or str(getattr(choice, "__name__", choice)))
    *first_words, last_word = dict.fromkeys(words)
    return f"{', '.join(first_words)} or {last_word}" if first_words else last_word


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {', '.join(dict.fromkeys(type(item).__name__ for item in value))}"
    if isinstance(value, int | float | str):
        return f"{type(value).__name__} {repr(value)[:_MAX_SHOWN]}"
    return type(value).__name__
