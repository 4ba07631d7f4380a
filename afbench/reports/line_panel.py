"""Draw lines with intervals over steps at even distances: one panel of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .drawing import LineStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ends = tuple[float, float] | None
_SHIFT = 0.09
"""Distance of two lines at one step, where a step is 1: no interval may cover another."""


class PanelPoint(NamedTuple):
    """A value at a step, counted from 0, with its interval if it has one."""

    step: int
    value: float
    ends: Ends = None


class PanelLine(NamedTuple):
    """Points in order; ``line_id`` names the line in the file. ``joined``: the first point is the one all lines begin at, and has no marker.

    ``rings`` are points apart from the line.
    """

    label: str
    line_id: str
    style: LineStyle
    points: Sequence[PanelPoint]
    joined: bool = False
    rings: Sequence[PanelPoint] = ()


def draw_lines(axes: Axes, ticks: Sequence[str], lines: Sequence[PanelLine], *, top: float) -> None:
    """Draw lines over named steps; the axis of values begins at 0 and reaches ``top`` at least."""
    shifted_lines = [line for line in lines if line.joined or len(line.points) > 1] or lines
    shift = min(_SHIFT, 0.7 / len(shifted_lines))
    for line in lines:
        offset = 0.0
        if line in shifted_lines:
            offset = shift * (shifted_lines.index(line) - (len(shifted_lines) - 1) / 2)
        xs = [
            point.step + (0.0 if line.joined and number == 0 else offset)
            for number, point in enumerate(line.points)
        ]
        style = line.style
        axes.plot(
            xs,
            [point.value for point in line.points],
            color=style.colour,
            linestyle=style.dash,
            marker=style.marker,
            markevery=list(range(int(line.joined), len(xs))),
            markersize=5,
            label=line.label,
            gid=line.line_id,
        )
        for number, (x, point) in enumerate(zip(xs, line.points, strict=True)):
            if point.ends and not (line.joined and number == 0):
                axes.vlines(x, *point.ends, color=style.colour, linewidth=1.2)
        axes.plot(
            [point.step + offset for point in line.rings],
            [point.value for point in line.rings],
            linestyle="",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            color=style.colour,
        )
    is_long = len(ticks) > 5 and max(map(len, ticks)) > 4
    axes.set_xticks(
        range(len(ticks)), ticks, rotation=30 if is_long else 0, ha="right" if is_long else "center"
    )
    axes.set_xlim(-0.4, len(ticks) - 0.6)
    highest = [point.ends[1] if point.ends else point.value for line in lines for point in line.points]
    axes.set_ylim(-0.03 * top, 1.03 * max([top, *highest]))
    if not highest:
        axes.text(0.5, 0.5, "undefined", transform=axes.transAxes, ha="center", va="center")
    axes.grid(visible=False, axis="x")


def add_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Put a legend of the lines of some panels, each label once, beside them."""
    handles: dict[str, Any] = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(handles.values(), handles, loc="outside right upper")
