"""Find the user's own folders: registered weights, indexes of sources."""

import os
from pathlib import Path

from afbench.core import UsageError


def weights_folder() -> Path:
    """Return the folder of registered weights: ``AFBENCH_WEIGHTS``, else one in the user's cache.

    Raises:
        UsageError: if ``AFBENCH_WEIGHTS`` names a user who does not exist.
    """
    folder = os.environ.get("AFBENCH_WEIGHTS")
    try:
        return Path(folder).expanduser() if folder else cache_folder() / "weights"
    except RuntimeError:
        raise UsageError(f"AFBENCH_WEIGHTS is '{folder}', and there is no such user") from None


def cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/afbench``, else ``~/.cache/afbench``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "afbench"
