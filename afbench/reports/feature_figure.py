"""Draw features of originals, attacked and purified images in two dimensions, as the ANSM paper's Figs. 5 and 8."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from afbench.metrics import FloatArray

from .drawing import Drawing, Theme, line_style, new_figure
from .embedding import Embedding, embed
from .evaluation import attack_title
from .line_panel import add_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FeatureRow(NamedTuple):
    """Whose features a vector holds: an original (no ``config``), or an attacked image, purified where a ``defence`` is named."""

    sample_id: str
    config: str
    attack: str
    defence: str


def feature_drawing(localizer: str, source: str, rows: Sequence[FeatureRow], vectors: FloatArray) -> Drawing:
    """Embed the vectors ``(N, C)`` of the rows together and return their figure: a panel of attacked images and one per defence."""
    embedding = embed(vectors)
    title = f"Features of {localizer} on {source}: {embedding.method}"
    images = len({row.sample_id for row in rows})
    return Drawing(
        f"features-{localizer}-{source}",
        title,
        f"The localizer's middle features, averaged over each image's pixels and scaled channel by channel, of {images} images spread "
        f"from the lowest F1 of the originals to the highest, under the strongest setting of each attack. Method: {embedding.method}; all "
        "panels share one map.",
        partial(draw_features, rows, embedding, title),
        _csv(rows, embedding),
    )


def draw_features(rows: Sequence[FeatureRow], embedding: Embedding, title: str, theme: Theme) -> Figure:
    """Draw a panel of originals and attacked images, and one for each defence with the purified ones instead."""
    attacks = list(dict.fromkeys(row.attack for row in rows if row.config))
    styles = {attack: line_style(number) for number, attack in enumerate(attacks)}
    defences = list(dict.fromkeys(row.defence for row in rows if row.config))
    figure = new_figure(3.4 * len(defences) + 1.6, 3.9)
    (grid,) = figure.subplots(1, len(defences), squeeze=False, sharex=True, sharey=True)
    for axes, defence in zip(grid, defences, strict=True):
        axes.set_title(f"purified by {defence}" if defence else "attacked")
        axes.set_xlabel(embedding.axes[0])
        numbers = [number for number, row in enumerate(rows) if not row.config]
        groups = [("Original", theme.ink, "o", numbers)]
        for attack, style in styles.items():
            numbers = [
                number
                for number, row in enumerate(rows)
                if row.config and (row.attack, row.defence) == (attack, defence)
            ]
            groups.append((attack_title(attack), style.colour, style.marker, numbers))
        for label, colour, marker, members in groups:
            axes.plot(
                *embedding.coordinates[members].T,
                linestyle="",
                marker=marker,
                markersize=5,
                markerfacecolor=colour if label != "Original" else "none",
                color=colour,
                alpha=0.8,
                label=label,
                gid=f"{defence or 'attacked'}: {label}",
            )
    grid[0].set_ylabel(embedding.axes[1])
    add_legend(figure, grid)
    figure.suptitle(title)
    return figure


def _csv(rows: Sequence[FeatureRow], embedding: Embedding) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*FeatureRow._fields, "x", "y"])
    writer.writerows(
        [*row, repr(float(x)), repr(float(y))]
        for row, (x, y) in zip(rows, embedding.coordinates, strict=True)
    )
    return stream.getvalue()
