"""Draw F1 after each step of posting as an SVG: a panel per localizer, a line for the originals and for each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .evaluation import attack_title

_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 40, 440, 240
_LEGEND, _BOTTOM = 210, 80
_COLOURS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
"""Okabe and Ito's, which people with any colour vision tell apart."""
_DASHES = ("", "6 3", "2 3")
_LEFT_OUT = ("all-ones", "authentic", "noise")
AS_STORED = "as stored"

Record = Mapping[str, Any]


def posting_figure(records: Sequence[Record]) -> str:
    """Draw records of ``posted_records``; of several sources all together, of attacks those that know no step.

    Args:
        records: with ``localizer``, ``source``, ``attack``, ``knowledge``, ``after``, ``f1`` and ``f1_ci``.
    """
    by_localizer: dict[str, list[Record]] = {}
    for record in records:
        by_localizer.setdefault(record["localizer"], []).append(record)
    panel = _TOP + _HEIGHT + _BOTTOM
    width, height = _LEFT + _WIDTH + _LEGEND, panel * len(by_localizer)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" role="img">',
        "<title>F1 after posting</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, (localizer, rows) in enumerate(by_localizer.items()):
        parts.append(f'<g transform="translate(0 {panel * number})">{_panel(localizer, rows)}</g>')
    return "".join([*parts, "</svg>\n"])


def _panel(localizer: str, records: Sequence[Record]) -> str:
    # ``all`` comes last where there are several sources
    source = records[-1]["source"]
    rows = [
        row
        for row in records
        if row["source"] == source and row["knowledge"] == "oblivious" and row["attack"] not in _LEFT_OUT
    ]
    steps = list(dict.fromkeys(row["after"] for row in rows))
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    xs = [_LEFT + _WIDTH * (number + 0.5) / len(steps) for number in range(len(steps))]
    parts = [
        f'<text x="{_LEFT}" y="22" font-weight="bold">{escape(localizer)} on {escape(source)}: F1 after posting</text>'
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<path d="M{_LEFT} {_y(tick)}h{_WIDTH}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{_y(tick)}" dy="4" text-anchor="end">{tick:g}</text>')
    parts.append(
        f'<text x="16" y="{_TOP + _HEIGHT / 2}" transform="rotate(-90 16 {_TOP + _HEIGHT / 2})" text-anchor="middle">F1</text>'
    )
    for x, step in zip(xs, steps, strict=True):
        y = _TOP + _HEIGHT + 16
        label = escape(step or AS_STORED)
        parts.append(
            f'<text x="{x:.1f}" y="{y}" transform="rotate(-25 {x:.1f} {y})" text-anchor="end">{label}</text>'
        )
    for number, attack in enumerate(attacks):
        cells = {row["after"]: row for row in rows if row["attack"] == attack}
        # lines are set apart, so that intervals do not cover each other
        shift = 5.0 * (number - (len(attacks) - 1) / 2)
        points = [(x + shift, cells[step]) for x, step in zip(xs, steps, strict=True) if step in cells]
        colour = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
        parts.append(_line(points, colour, dash))
        y = _TOP + 10 + 20 * number
        x = _LEFT + _WIDTH + 14
        parts.append(f'<path d="M{x} {y}h22" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>')
        parts.append(f'<text x="{x + 28}" y="{y}" dy="4">{escape(attack_title(attack))}</text>')
        through = [
            (x + shift, row)
            for x, step in zip(xs, steps, strict=True)
            for row in records
            if (row["source"], row["attack"], row["after"]) == (source, attack, step)
            and row["knowledge"] == "adaptive"
        ]
        parts += [
            f'<circle cx="{x:.1f}" cy="{_y(row["f1"])}" r="4.5" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            for x, row in through
            if row["f1"] is not None
        ]
    if any(row["knowledge"] == "adaptive" for row in records):
        y = _TOP + 10 + 20 * len(attacks)
        x = _LEFT + _WIDTH + 14
        parts.append(f'<circle cx="{x + 11}" cy="{y}" r="4.5" fill="none" stroke="#000" stroke-width="1.5"/>')
        parts.append(f'<text x="{x + 28}" y="{y}" dy="4">attacked through the step</text>')
    return "".join(parts)


def _line(points: Sequence[tuple[float, Record]], colour: str, dash: str) -> str:
    defined = [(x, row) for x, row in points if row["f1"] is not None]
    path = "L".join(f"{x:.1f} {_y(row['f1'])}" for x, row in defined)
    parts = (
        [f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dash}"/>']
        if path
        else []
    )
    for x, row in defined:
        if row["f1_ci"]:
            low, high = map(_y, row["f1_ci"])
            parts.append(f'<path d="M{x:.1f} {low}V{high}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{_y(row["f1"])}" r="3" fill="{colour}"/>')
    return "".join(parts)


def _y(value: float) -> str:
    return f"{_TOP + _HEIGHT * (1 - min(max(value, 0.0), 1.0)):.1f}"
