"""Functions from images to purified images, by name."""

from .purifier import Purifier
from .registry import ANSM, NRP, list_defences, load_defence

__all__ = ["ANSM", "NRP", "Purifier", "list_defences", "load_defence"]
