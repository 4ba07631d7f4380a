"""Small line plots as SVG, drawn so that a page may forbid inline styles and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 320, 230
_LEFT_MARGIN, _RIGHT_MARGIN, _TOP_MARGIN, _BOTTOM_MARGIN = 40, 12, 12, 42
_Y_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Point:
    """A mean in [0, 1] with its interval, if it has one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class PlotLine:
    """Points in order of x; ``style`` is the class a style sheet colours it by."""

    name: str
    style: str
    points: Sequence[Point]


def f1_panel(
    lines: Sequence[PlotLine],
    *,
    ident: str,
    title: str,
    description: str,
    x_label: str,
    x_ticks: Sequence[float],
) -> str:
    """Draw F1 (0 to 1) over an intensity; every text is escaped.

    Args:
        lines: drawn in order, the last on top.
        ident: unique on the page; names the title and description for screen readers.
        x_ticks: where to write numbers; the axis runs from 0 to the last.
    """
    label = escape(f"{ident}-title {ident}-text", quote=True)
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{label}">',
        f'<title id="{escape(ident, quote=True)}-title">{escape(title)}</title>',
        f'<desc id="{escape(ident, quote=True)}-text">{escape(description)}</desc>',
        *_axes(x_label, x_ticks),
    ]
    end = max(x_ticks)
    for line in lines:
        parts += _line(line, end)
    return "".join([*parts, "</svg>"])


def interval_bar(value: float, low: float | None, high: float | None, *, end: float = 100.0) -> str:
    """Draw a value with its interval on a scale from 0 to ``end``; it decorates the numbers and is hidden from screen readers."""

    def at(number: float) -> str:
        return f"{4 + 112 * min(max(number / end, 0.0), 1.0):.1f}"

    span = "" if low is None or high is None else f'<path class="span" d="M{at(low)} 7H{at(high)}"/>'
    return (
        '<svg class="bar" viewBox="0 0 120 14" aria-hidden="true" focusable="false">'
        f'<path class="rail" d="M4 7H116"/>{span}<path class="here" d="M{at(value)} 1V13"/></svg>'
    )


def _axes(x_label: str, x_ticks: Sequence[float]) -> list[str]:
    end, right, bottom = max(x_ticks), WIDTH - _RIGHT_MARGIN, HEIGHT - _BOTTOM_MARGIN
    parts = []
    for tick in _Y_TICKS:
        y = _y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT_MARGIN} {y}H{right}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT_MARGIN - 6}" y="{y}" dy="4" text-anchor="end">{tick:g}</text>'
        )
    for tick in x_ticks:
        parts.append(f'<path class="mark" d="M{_x(tick, end)} {bottom}v4"/>')
        parts.append(
            f'<text class="tick" x="{_x(tick, end)}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<path class="axis" d="M{_LEFT_MARGIN} {bottom}H{right}"/>')
    middle = (_LEFT_MARGIN + right) / 2
    parts.append(
        f'<text class="label" x="{middle:g}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text class="label" x="{_LEFT_MARGIN + 5}" y="{_TOP_MARGIN + 12}">F1</text>')
    return parts


def _line(line: PlotLine, end: float) -> list[str]:
    style = escape(line.style, quote=True)
    parts = [f'<g class="{style}">']
    points = [(_x(point.x, end), _y(point.y)) for point in line.points]
    if len(points) > 1:
        parts.append('<path class="run" d="M' + "L".join(f"{x} {y}" for x, y in points) + '"/>')
    for point, (x, y) in zip(line.points, points, strict=True):
        if point.low is not None and point.high is not None:
            low, high = _y(point.low), _y(point.high)
            x0, x1 = f"{float(x) - 3.5:.1f}", f"{float(x) + 3.5:.1f}"
            parts.append(f'<path class="span" d="M{x} {low}V{high}M{x0} {low}H{x1}M{x0} {high}H{x1}"/>')
        parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="3.5"/>')
    return [*parts, "</g>"]


def _x(value: float, end: float) -> str:
    return f"{_LEFT_MARGIN + (WIDTH - _LEFT_MARGIN - _RIGHT_MARGIN) * value / end:.1f}"


def _y(value: float) -> str:
    return (
        f"{HEIGHT - _BOTTOM_MARGIN - (HEIGHT - _TOP_MARGIN - _BOTTOM_MARGIN) * min(max(value, 0.0), 1.0):.1f}"
    )
