"""Draw F1 and RP against the strength of attacks, as the ANSM paper's Fig. 3: against phi, and against the steps of C&W."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .drawing import Drawing, LineStyle, Theme, line_style, new_figure
from .evaluation import attack_title
from .line_panel import Ends, PanelLine, PanelPoint, add_legend, draw_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AXES = {"phi": "phi in 255ths", "steps": "steps"}
_TOPS = {"f1": 1.0, "rp": 100.0}
_MEASURES = {"f1": "F1", "rp": "RP in %"}


class StrengthPoint(NamedTuple):
    """Means over the images of one config, with their 95 % intervals; None where undefined."""

    config: str
    strength: float
    images: int
    f1: float | None
    f1_ci: Ends
    rp: float | None
    rp_ci: Ends


class StrengthLine(NamedTuple):
    """One attack with growing strength, which is ``phi`` in 255ths or a number of ``steps``; ``variant`` tells parameters apart."""

    attack: str
    variant: str
    axis: str
    points: Sequence[StrengthPoint]


class StrengthCurves(NamedTuple):
    """All attacks on one localizer behind one defence, on one source; ``original`` is what it reaches without an attack, where that was measured."""

    localizer: str
    source: str
    defence: str
    knowledge: str
    original: StrengthPoint | None
    lines: Sequence[StrengthLine]


def strength_drawing(curves: StrengthCurves) -> Drawing:
    """Return the figure of one localizer, source and defence: a row of F1 and one of RP, a column for phi and one for steps."""
    parts = [curves.localizer, curves.source, *([] if curves.defence == "none" else [curves.defence])]
    if curves.knowledge == "adaptive":
        parts.append("adaptive")
    counts = sorted({point.images for line in curves.lines for point in line.points})
    images = (
        curves.original.images
        if curves.original
        else " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    )
    return Drawing(
        "strength-" + "-".join(parts),
        strength_title(curves),
        f"Mean F1, and RP in percent of the bare localizer's F1 on the originals, over {images} images; strengths "
        "stand at even distances; bars are "
        "95 % intervals by bootstrap over images."
        + (" The point at 0 is of the originals." if curves.original else ""),
        partial(draw_strength, curves),
        strength_csv(curves),
    )


def strength_title(curves: StrengthCurves) -> str:
    """Write in one line whose figures these are."""
    title = f"{curves.localizer} on {curves.source}"
    if curves.defence == "none":
        return title
    return f"{title}, {'attacked through' if curves.knowledge == 'adaptive' else 'behind'} {curves.defence}"


def draw_strength(curves: StrengthCurves, theme: Theme) -> Figure:
    """Draw the panels; a line keeps its colour, marker and dashes in all of them."""
    styles = [line_style(number) for number in range(len(curves.lines))]
    axis_names = [axis for axis in _AXES if any(line.axis == axis for line in curves.lines)]
    figure = new_figure(3.4 * len(axis_names) + 1.2, 5.2)
    grid = figure.subplots(2, len(axis_names), squeeze=False, sharex="col", sharey="row")
    for row, measure in zip(grid, _MEASURES, strict=True):
        for axes, axis in zip(row, axis_names, strict=True):
            lines = [
                (line, style) for line, style in zip(curves.lines, styles, strict=True) if line.axis == axis
            ]
            _draw_panel(axes, measure, curves.original, lines, theme)
        row[0].set_ylabel(_MEASURES[measure])
    for axes, axis in zip(grid[1], axis_names, strict=True):
        axes.set_xlabel(_AXES[axis])
    add_legend(figure, grid[0])
    figure.suptitle(strength_title(curves))
    return figure


def _draw_panel(
    axes: Axes,
    measure: str,
    original: StrengthPoint | None,
    lines: Sequence[tuple[StrengthLine, LineStyle]],
    theme: Theme,
) -> None:
    strengths = sorted({point.strength for line, _ in lines for point in line.points})
    if original:
        strengths.insert(0, 0.0)

    def panel_points(points: Sequence[StrengthPoint]) -> list[PanelPoint]:
        return [
            PanelPoint(
                strengths.index(point.strength), getattr(point, measure), getattr(point, f"{measure}_ci")
            )
            for point in points
            if getattr(point, measure) is not None
        ]

    start = panel_points([original] if original else [])
    panel_lines = [
        *(
            [PanelLine("originals", f"{measure} originals", LineStyle(theme.ink, "_", "-"), start)]
            if original
            else []
        ),
        *(
            PanelLine(
                line_label(line),
                f"{measure} {line_label(line)}",
                style,
                [*start, *panel_points(line.points)],
                joined=bool(start),
            )
            for line, style in lines
        ),
    ]
    draw_lines(axes, [f"{strength:.4g}" for strength in strengths], panel_lines, top=_TOPS[measure])


def line_label(line: StrengthLine) -> str:
    """Return what the legend calls a line."""
    return attack_title(line.attack) + (f" ({line.variant})" if line.variant else "")


def strength_csv(curves: StrengthCurves) -> str:
    """Write the plotted numbers, one row for each config; the originals come first, where they were measured."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            *(
                "localizer",
                "source",
                "defence",
                "knowledge",
                "attack",
                "config",
                "axis",
                "strength",
                "images",
            ),
            *("f1", "f1_low", "f1_high", "rp", "rp_low", "rp_high"),
        ]
    )
    head = (curves.localizer, curves.source, curves.defence, curves.knowledge)
    points = [("clean", "", curves.original)] if curves.original else []
    points += [(line.attack, line.axis, point) for line in curves.lines for point in line.points]
    for attack, axis, point in points:
        f1, rp = ([point.f1, *(point.f1_ci or (None, None))], [point.rp, *(point.rp_ci or (None, None))])
        numbers = ["" if value is None else repr(value) for value in (*f1, *rp)]
        writer.writerow([*head, attack, point.config, axis, f"{point.strength:.6g}", point.images, *numbers])
    return stream.getvalue()
