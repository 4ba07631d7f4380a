"""Functions from images to purified images, by name."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .names import ANSM, NRP, list_defences

if TYPE_CHECKING:
    from .purifier import Purifier
    from .registry import load_defence

__all__ = ["ANSM", "NRP", "Purifier", "list_defences", "load_defence"]

_HOMES = {"Purifier": ".purifier", "load_defence": ".registry"}


def __getattr__(name: str) -> Any:
    """Import on first use, so that a list of defences does not wait for torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
