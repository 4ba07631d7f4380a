"""Import a function that a user names on the command line or in a plan, and identify its code.

Only what the user writes comes here: a name that a benchmark, a manifest or a submission holds is never imported.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, UsageError
from afbench.crash import crash_line
from afbench.held_values import describe_code
from afbench.naming import named_once

Argument = int | float | bool | str
_FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)((?::[^\W\d]\w*=[^:=]+)*)")

_FIRST_READ: dict[Path, tuple[Any, str]] = {}
"""Each source file's module specification and sha256 when it was first read."""


@dataclass(frozen=True)
class UserFunction:
    """A function by its path ``my_package.my_module:build``, and the arguments that stand behind it as ``:name=value``."""

    path: str
    arguments: Mapping[str, Argument]


def parse_function(text: str) -> UserFunction | None:
    """Read ``my_package.my_module:build[:name=value...]``; None for any other text.

    >>> parse_function("my_module:build:sigma=0.5:mode=reflect")
    UserFunction(path='my_module:build', arguments={'sigma': 0.5, 'mode': 'reflect'})

    Raises:
        UsageError: if an argument comes twice.
    """
    match = _FUNCTION.fullmatch(text)
    if match is None:
        return None
    pairs = [pair.partition("=") for pair in match[2].split(":")[1:]]
    arguments = named_once(f"'{text}'", ((name, _argument(value)) for name, _, value in pairs))
    return UserFunction(match[1], arguments)


def call_function(kind: str, path: str, *values: Any, **arguments: Any) -> Any:
    """Import a user's function and call it; the working folder is last on the import path.

    Args:
        kind: what the function builds, for messages: ``defence``.
        path: ``my_package.my_module:build``.
    Raises:
        UsageError: if it cannot be imported, or fails.
    """
    function = _import_function(kind, path)
    try:
        return function(*values, **arguments)
    except AfbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{kind} '{path}' failed ({crash_line(error)}); `afbench --debug COMMAND ...` shows the traceback"
        ) from error


def source_sha256(kind: str, code: Any) -> str:
    """Hash the file of a function, or of the class of an object, with the values that it holds.

    Without a file, as in a notebook, its own lines count.

    Raises:
        UsageError: if its source cannot be read, or its file has changed since it was imported.
    """
    return _sha256(_source(kind, code) + b"\0" + describe_code(code).encode())


def built_source_sha256(kind: str, code: Any, path: str) -> str:
    """Hash the files of a function and of the ``build`` that made it: with its arguments they decide all that it holds.

    Raises:
        UsageError: if a source cannot be read, or has changed since it was imported.
    """
    hashes = {_sha256(_source(kind, part)): None for part in (code, _import_function(kind, path))}
    return next(iter(hashes)) if len(hashes) == 1 else _sha256("\0".join(hashes).encode())


def _import_function(kind: str, path: str) -> Any:
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # importing runs code that is not ours
        raise UsageError(
            f"{kind} '{path}' cannot be imported ({crash_line(error)}); expected module:function, importable "
            f"from {Path.cwd()}"
        ) from error
    with suppress(OSError, TypeError):  # what has no source, source_sha256 refuses
        _read_imported(*_located(function))
    return function


def _source(kind: str, code: Any) -> bytes:
    try:
        file, described = _located(code)
        return _read_imported(file, described) if file.is_file() else inspect.getsource(described).encode()
    except (OSError, TypeError) as error:
        raise UsageError(
            f"the source of the {kind} cannot be read ({crash_line(error)}), and without it nothing tells two versions "
            "apart; put it into a file"
        ) from None


def _located(code: Any) -> tuple[Path, Callable[..., Any] | type]:
    """Find the file of a function under its decorators and partials, or of an object's class."""
    while isinstance(code, partial) or hasattr(code, "__wrapped__"):
        code = code.func if isinstance(code, partial) else code.__wrapped__
    described = code if inspect.isroutine(code) or inspect.isclass(code) else type(code)
    return Path(inspect.getsourcefile(described) or ""), described


def _read_imported(file: Path, code: Any) -> bytes:
    """Read a source file; refuse one that is newer than the module in memory, whose old code would run under a new hash."""
    source = file.read_bytes()
    spec = getattr(
        sys.modules.get(getattr(code, "__module__", "")), "__spec__", None
    )  # a reload makes another
    first_spec, first_sha256 = _FIRST_READ.get(file, (None, ""))
    if first_sha256 and spec is not None and spec is first_spec and first_sha256 != _sha256(source):
        raise UsageError(f"{file} has changed since it was imported; restart Python")
    _FIRST_READ[file] = spec, _sha256(source)
    return source


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _argument(text: str) -> Argument:
    if text in ("true", "false"):
        return text == "true"
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):  # JSON has no such numbers
        return text
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else number
