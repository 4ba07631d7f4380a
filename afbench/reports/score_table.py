"""A score as text: per localizer the average, the worst case and every attack, with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from afbench.plans.headline import ALL, STRONG, headline_attack

from .tables import figure
from .text import fold_line, text_table

_HEAD = ["localizer", "images of", "images", "F1", "95 % of F1", "RP %", "95 % of RP", "undef"]


def score_table(score: Mapping[str, Any], width: int | None = None) -> str:
    """Draw the aggregates of a score.json as an aligned table, and its warnings, folded to ``width``."""
    body = [
        _row(localizer, label, figures)
        for localizer, aggregates in score["aggregates"].items()
        for label, figures in _labelled(aggregates)
    ]
    baselines = score.get("baselines", {})
    body += [
        _row(localizer, f"not ranked: {name}", figures)
        for localizer, baseline in baselines.items()
        for name, figures in baseline.items()
        if name != "above_all_ones"
    ]
    lines = [text_table(_HEAD, body, column_groups=(1, 2, 2, 1), width=width)]
    lines += [
        f"{localizer}: not shown to beat a mask of ones in F1 ({figure(baseline['above_all_ones']['f1'], 3)} "
        f"{_images_of(score['aggregates'][localizer])})"
        for localizer, baseline in baselines.items()
        if baseline["all-ones"]["n"] and not baseline["above_all_ones"]["beaten"]
    ]
    lines += [f"warning {warning}" for warning in score["warnings"]]
    if added := score.get("not_covered"):
        lines.append(
            f"not covered: {len(added)} added to the benchmark after this was made, first {added[0]}; it ranks beside "
            "submissions of the same configs, and `afbench predict` onto the same folder adds them"
        )
    if not score["rankable"] and score.get("missing") != 0:
        lines.append(
            f"partial: {score.get('missing', 'some')} predictions are missing, so this cannot be ranked"
        )
    return "\n".join([lines[0], *(fold_line(line, width) for line in lines[1:])])


def _labelled(aggregates: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the figures with their labels, the one that says how robust a localizer is first."""
    per_attack = dict(aggregates["per_attack"])
    if headline_attack(per_attack) == STRONG:
        yield STRONG, per_attack.pop(STRONG)
    yield "all attacks (micro)", aggregates["micro"]
    yield "mean of sources (macro)", aggregates["macro"]
    yield "worst case per image", aggregates["worst_case"]
    yield from per_attack.items()


def _images_of(aggregates: Mapping[str, Any]) -> str:
    attack = headline_attack(aggregates["per_attack"])
    return "on attacked images" if attack == ALL else f"on images of {attack}"


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
