"""Localizers by name."""

from .load import list_localizers, load_localizer, require_localizer

__all__ = ["list_localizers", "load_localizer", "require_localizer"]
