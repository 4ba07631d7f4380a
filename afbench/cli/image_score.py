"""The option of commands that print figures of images as a whole: which score of an image they print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from afbench.core import UsageError

image_score_option = click.option(
    "--image-score",
    type=click.Choice(["top1", "max", "share", "own"]),
    help="Print images as a whole by this score: the mean of the highest 1 % of probabilities, the highest one, the share of "
    "pixels called forged, or the localizer's own. Default: own, top1 or share, the first that is known.",
)


def chosen_score(records: Sequence[Mapping[str, Any]], name: str | None) -> str:
    """Return the score whose figures are printed.

    Raises:
        UsageError: if the user asked for one that no image has.
    """
    from afbench.reports.image_table import SCORE_NAMES, shown_score

    score_names = list(dict.fromkeys(record["score"] for record in records))
    if name is None or not records:
        return name or shown_score(records)
    if name not in score_names:
        raise UsageError(
            f"--image-score {name}: {SCORE_NAMES[name]} is not known here; known: {', '.join(score_names)}"
        )
    return name
