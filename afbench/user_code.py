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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from afbench.core import AfbenchError, UsageError
from afbench.crash import crash_line

Argument = int | float | bool | str
_FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)((?::[^\W\d]\w*=[^:=]+)*)")


@dataclass(frozen=True)
class UserFunction:
    """A function by its path ``my_package.my_module:build``, and the arguments that stand behind it as ``:name=value``."""

    path: str
    arguments: Mapping[str, Argument]


def parse_function(text: str) -> UserFunction | None:
    """Read ``my_package.my_module:build[:name=value...]``; None for any other text.

    >>> parse_function("my_module:build:sigma=0.5:mode=reflect")
    UserFunction(path='my_module:build', arguments={'sigma': 0.5, 'mode': 'reflect'})
    """
    match = _FUNCTION.fullmatch(text)
    if match is None:
        return None
    pairs = [pair.partition("=") for pair in match[2].split(":")[1:]]
    return UserFunction(match[1], {name: _argument(value) for name, _, value in pairs})


def call_function(kind: str, path: str, *values: Any, **arguments: Any) -> Any:
    """Import a user's function and call it; the working folder is last on the import path.

    Args:
        kind: what the function builds, for messages: ``defence``.
        path: ``my_package.my_module:build``.
    Raises:
        UsageError: if it cannot be imported, or fails.
    """
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
    try:
        return function(*values, **arguments)
    except AfbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{kind} '{path}' failed ({crash_line(error)}); `afbench --debug COMMAND ...` shows the traceback"
        ) from error


def source_sha256(kind: str, code: Any) -> str:
    """Hash the file that holds a function, or the class of an object; without a file, as in a notebook, its own lines.

    Raises:
        UsageError: if its source cannot be read.
    """
    while isinstance(code, partial):
        code = code.func
    described: Callable[..., Any] | type = (
        code if inspect.isroutine(code) or inspect.isclass(code) else type(code)
    )
    try:
        file = Path(inspect.getsourcefile(described) or "")
        source = file.read_bytes() if file.is_file() else inspect.getsource(described).encode()
    except (OSError, TypeError) as error:
        raise UsageError(
            f"the source of the {kind} cannot be read ({crash_line(error)}), and without it nothing tells two versions "
            "apart; put it into a file"
        ) from None
    return hashlib.sha256(source).hexdigest()


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
