"""Load localizers by name."""

from .load import (
    known_localizers,
    list_localizers,
    load_localizer,
    require_known,
    require_localizer,
    why_imprecise,
)

__all__ = [
    "known_localizers",
    "list_localizers",
    "load_localizer",
    "require_known",
    "require_localizer",
    "why_imprecise",
]
