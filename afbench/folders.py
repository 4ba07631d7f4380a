"""Where afbench keeps what is the user's: registered weights, indexes of sources."""

import os
from pathlib import Path

from afbench.core import UsageError


def weights_folder() -> Path:
    """``AFBENCH_WEIGHTS``, else a folder in the user's cache."""
    chosen = os.environ.get("AFBENCH_WEIGHTS")
    try:
        return Path(chosen).expanduser() if chosen else cache_folder() / "weights"
    except RuntimeError:
        raise UsageError(f"AFBENCH_WEIGHTS is '{chosen}', and there is no such user") from None


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/afbench``, else ``~/.cache/afbench``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "afbench"
