"""Choose the figure that says how robust a localizer is: its RP under ``strong`` where a benchmark holds it.

The mean over all attacks depends on which attacks a benchmark happens to hold, and weak ones raise it. Without ``strong`` that
mean is all there is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

STRONG, ALL = "strong", "all"


def headline_attack(attacks: Collection[str]) -> str:
    """Return the attack whose RP ranks: ``strong`` if it is among ``attacks``, else ``all``."""
    return STRONG if STRONG in attacks else ALL


def headline_figures(aggregates: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return that attack's figures from one localizer's aggregates of a score."""
    figures: Mapping[str, Any] = aggregates["per_attack"].get(STRONG, aggregates["micro"])
    return figures
