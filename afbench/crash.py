"""One line for an exception nobody foresaw: of a user's own code, of a library, or of ours."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_OURS = Path(__file__).resolve().parent
_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))


def crash_line(error: BaseException) -> str:
    """Its type, the first line of its message, and the place in the user's own code it comes from, if it does."""
    message = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {message}"[:300].removesuffix(": ") + place_of(error)


def place_of(error: BaseException) -> str:
    """Where in the user's own code it comes from, as the end of a sentence; "" if it does not."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_users(frame.filename):
            return f", at {frame.filename}:{frame.lineno} in {frame.name}"
    return ""


def _is_users(file: str) -> bool:
    path = Path(file).resolve()
    return path.is_file() and not any(path.is_relative_to(folder) for folder in (_OURS, *_INSTALLED))
