"""Load localizers by name."""

from .choice import LocalizerChoice, parse_choice
from .load import (
    known_localizers,
    list_localizers,
    load_localizer,
    require_known,
    require_localizer,
    why_imprecise,
)

__all__ = [
    "LocalizerChoice",
    "known_localizers",
    "list_localizers",
    "load_localizer",
    "parse_choice",
    "require_known",
    "require_localizer",
    "why_imprecise",
]
