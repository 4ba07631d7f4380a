"""The option of commands that print figures of images as a whole: which score of an image they print."""

from __future__ import annotations

import click

image_score_option = click.option(
    "--image-score",
    type=click.Choice(["top1", "max", "share", "own"]),
    help="Print images as a whole by this score: the mean of the highest 1 % of probabilities, the highest one, the share of "
    "pixels called forged, or the localizer's own. Default: of each localizer the first that is known of own, top1, share.",
)
