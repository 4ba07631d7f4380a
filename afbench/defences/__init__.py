"""Functions from images to purified images, by name."""

from .transforms import Purifier, load_defence

__all__ = ["Purifier", "load_defence"]
