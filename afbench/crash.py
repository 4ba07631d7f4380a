"""Describe an unexpected exception in one line: of a user's own code, of a library, or of ours."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def crash_line(error: BaseException) -> str:
    """Describe an error in one line: its type, the first line of its message, and where in the user's code it arose."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {message}"[:300].removesuffix(": ") + user_location(error)


def user_location(error: BaseException) -> str:
    """Say where in the user's own code an error arose, as the end of a sentence; "" if it arose elsewhere."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_users_file(frame.filename):
            return f", at {frame.filename}:{frame.lineno} in {frame.name}"
    return ""


def is_users_file(file: str) -> bool:
    """Say whether a file is neither afbench's nor of an installed library."""
    path = Path(file).resolve()
    return path.is_file() and not any(path.is_relative_to(folder) for folder in (_PACKAGE, *_INSTALLED))
