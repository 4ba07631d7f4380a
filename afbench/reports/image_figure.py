"""Draw how well forged images are told from authentic ones, each as a whole, before and after attacks."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from .drawing import Drawing, Theme, line_style, new_figure
from .image_table import image_attack_title, image_csv, image_side, score_name
from .line_panel import PanelLine, PanelPoint, add_legend, draw_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Record = Mapping[str, Any]
_PANELS = {"auc": "AUC", "balanced_accuracy": "balanced accuracy"}
_CHANCE = 0.5
_TICK_LETTERS = 11


def image_drawings(records: Sequence[Record]) -> Iterator[Drawing]:
    """Yield a figure for each localizer, of records of one score each; of several sources all together."""
    for localizer in dict.fromkeys(record["localizer"] for record in records):
        rows = [record for record in records if record["localizer"] == localizer]
        # ``all`` comes last where there are several sources
        source = rows[-1]["source"]
        rows = [row for row in rows if row["source"] == source]
        first = rows[0]
        yield Drawing(
            f"images-{localizer}-{source}",
            f"{localizer} on {source}: forged images told from authentic ones",
            f"Each image by one number, the {score_name(first)}; above {first['threshold']:g} it counts as "
            f"forged. {first['images']} forged images, before and after attacks, against {first['authentic']} authentic ones, which nobody "
            "attacks; bars are 95 % intervals, the dashed line is chance.",
            partial(draw_images, rows),
            image_csv(rows),
        )


def draw_images(records: Sequence[Record], theme: Theme) -> Figure:
    """Draw a panel for AUC and one for balanced accuracy: a mark for each attack and defence."""
    attacks = list(dict.fromkeys(record["attack"] for record in records))
    sides = list(dict.fromkeys(map(image_side, records)))
    ticks = [textwrap.fill(image_attack_title(attack), _TICK_LETTERS) for attack in attacks]
    width = 1.2 + 0.62 * len(attacks) * max(1.0, len(sides) / 6)
    figure = new_figure(2 * width + 1.6, 3.1)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, title) in zip(panels, _PANELS.items(), strict=True):
        lines = [
            PanelLine(
                side,
                f"{key} {side}",
                # attacks have no order, so no line joins them
                line_style(number)._replace(dash="none"),
                [
                    PanelPoint(attacks.index(record["attack"]), record[key], tuple(record[f"{key}_ci"]))
                    for record in records
                    if image_side(record) == side
                ],
            )
            for number, side in enumerate(sides)
        ]
        draw_lines(axes, ticks, lines, top=1.0)
        axes.axhline(_CHANCE, color=theme.ink, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_title(title)
    add_legend(figure, list(panels))
    return figure
