"""A score as text: per localizer the average, the worst case and every attack, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .tables import figure
from .text import fold_line, text_table

_HEAD = ["localizer", "images of", "images", "F1", "95 % of F1", "RP %", "95 % of RP", "undef"]


def score_table(score: Mapping[str, Any], width: int | None = None) -> str:
    """The aggregates of a score.json as an aligned table, and its warnings, folded to ``width``."""
    body = [
        _row(localizer, label, figures)
        for localizer, found in score["aggregates"].items()
        for label, figures in (
            ("all attacks (micro)", found["micro"]),
            ("mean of sources (macro)", found["macro"]),
            ("worst attack per image", found["worst_case"]),
            *found["per_attack"].items(),
        )
    ]
    lines = [text_table(_HEAD, body, together=(1, 2, 2, 1), width=width)]
    lines += [f"warning {one}" for one in score["warnings"]]
    if not score["rankable"]:
        lines.append(
            f"partial: {score.get('missing', 'some')} predictions are missing, so this cannot be ranked"
        )
    return "\n".join([lines[0], *(fold_line(line, width) for line in lines[1:])])


def _row(localizer: str, label: str, figures: Mapping[str, Any]) -> list[str]:
    return [
        localizer,
        label + " (seen in training)" * figures["seen_in_training"],
        str(figures["n"]),
        figure(figures["f1"], 3),
        _interval(figures["f1_ci"], 3),
        figure(figures["rp"], 1),
        _interval(figures["rp_ci"], 1),
        str(figures["n_undefined"]),
    ]


def _interval(ends: Sequence[float] | None, digits: int) -> str:
    return "-" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
