"""Describe the values that a user's function or network holds, so that two from one file are told apart. No torch here."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from afbench.crash import is_users_file

_WEIGHTS = ("_parameters", "_buffers", "_modules")


def describe_code(code: Any) -> str:
    """Write down a function's name and line, closure and defaults, a partial's arguments, or an object's attributes.

    >>> describe_code(partial(max, 0.5)) == describe_code(partial(max, 0.7))
    False
    """
    return _describe(code, ())


def _describe(value: Any, outer: tuple[int, ...]) -> str:
    """Describe a value inside others, whose ids are ``outer``."""
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return repr(value)
    if id(value) in outer:
        return "itself"
    inner = (*outer, id(value))
    if isinstance(value, Mapping):
        return _join(
            (f"{_describe(key, inner)}={_describe(item, inner)}" for key, item in value.items()), "{}"
        )
    if isinstance(value, (list, tuple)):
        return _join((_describe(item, inner) for item in value), "[]")
    if isinstance(value, (set, frozenset)):
        return _join(sorted(_describe(item, inner) for item in value), "{}")
    return f"{_name(value)}{_describe(_held_values(value), inner)}"


def _held_values(value: Any) -> dict[str, Any]:
    if isinstance(value, partial):
        return {"function": value.func, "values": value.args, "arguments": value.keywords}
    if inspect.ismethod(value):
        return {"function": value.__func__, "object": value.__self__}
    if inspect.isfunction(value):
        return {
            "line": value.__code__.co_firstlineno,
            "defaults": value.__defaults__,
            "keyword_defaults": value.__kwdefaults__,
            **dict(zip(value.__code__.co_freevars, map(_content, value.__closure__ or ()), strict=True)),
        }
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return {}
    return _attributes(value)


def _attributes(value: Any) -> dict[str, Any]:
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and isinstance(value, torch.Tensor):
        data = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return {
            "shape": tuple(value.shape),
            "type": str(value.dtype),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    if numpy is not None and isinstance(value, numpy.ndarray):
        sha256 = hashlib.sha256(value.tobytes()).hexdigest()
        return {"shape": value.shape, "type": str(value.dtype), "sha256": sha256}
    if torch is not None and isinstance(value, torch.nn.Module):
        machinery = vars(torch.nn.Module()).keys() - set(_WEIGHTS)  # hooks and the like
        return {name: item for name, item in vars(value).items() if name not in machinery}
    if _is_users(type(value)):
        return dict(getattr(value, "__dict__", {}))
    text = repr(value)  # a library's object may lead anywhere: what it shows has to do, but for an address
    return {} if " at 0x" in text else {"repr": text}


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is not assigned yet
        return None


def _is_users(described: type) -> bool:
    try:
        return is_users_file(inspect.getsourcefile(described) or "")
    except (OSError, TypeError):  # of a notebook, or of no file
        return described.__module__ == "__main__"


def _name(value: Any) -> str:
    described = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(described, '__module__', '')}.{described.__qualname__}"


def _join(texts: Iterable[str], brackets: str) -> str:
    return brackets[0] + ", ".join(texts) + brackets[1]
