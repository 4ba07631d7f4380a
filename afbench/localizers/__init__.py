"""Localizers by name."""

from .load import list_localizers, load_localizer, require_known, require_localizer

__all__ = ["list_localizers", "load_localizer", "require_known", "require_localizer"]
