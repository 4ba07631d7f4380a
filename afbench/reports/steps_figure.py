"""Draw F1 over steps that images go through: strengths of a transform (the ANSM paper's Fig. 4), or steps of posting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from afbench.defences.names import NONE, TRANSFORMS

from .drawing import SVG, Drawing, LineStyle, Theme, encode, line_style, new_figure
from .evaluation import AFTER, attack_title, evaluation_csv
from .line_panel import PanelLine, PanelPoint, add_legend, draw_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEFT_OUT = ("all-ones", "authentic", "noise")
_FALLING = ("jpeg", "resize", "random-resize-pad", "bit-depth")
"""Transforms that change an image more, the smaller their number is."""
AS_STORED = "as stored"
RINGS = "attacked through the step"

Record = Mapping[str, Any]


class StepsPanel(NamedTuple):
    """Records of one localizer and source, each with its step, counted from 0; ``ticks`` name the steps."""

    title: str
    axis: str
    ticks: Sequence[str]
    records: Sequence[tuple[int, Record]]


def sweep_sides(records: Sequence[Record]) -> dict[str, list[float]]:
    """Return the transforms that stand at several strengths before a localizer, with these from weak to strong."""
    strengths: dict[str, set[float]] = {}
    for record in records:
        value = _strength(record)
        if value is not None:
            strengths.setdefault(record["defence_type"], set()).add(value)
    return {
        kind: sorted(values, reverse=kind in _FALLING)
        for kind, values in strengths.items()
        if len(values) > 1
    }


def _strength(record: Record) -> float | None:
    """Return the setting of a transform; None for other defences, and where an evaluation does not say what it is of."""
    transform = TRANSFORMS.get(record.get("defence_type", ""))
    value = record.get("defence_params", {}).get(transform.number.name) if transform else None
    # True is 1 in Python, but no strength
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_swept(record: Record, sweeps: Mapping[str, Sequence[float]]) -> bool:
    """Return whether a record is of a transform that stands at several strengths."""
    return record.get("defence_type") in sweeps and _strength(record) is not None


def sweep_drawings(records: Sequence[Record]) -> Iterator[Drawing]:
    """Yield a figure for each localizer and source: a panel for each transform, from no transform to the strongest."""
    for localizer, source in dict.fromkeys((record["localizer"], record["source"]) for record in records):
        rows = [row for row in records if (row["localizer"], row["source"]) == (localizer, source)]
        sweeps = sweep_sides(rows)
        bare = [row for row in rows if row["defence"] == NONE]
        panels = []
        for kind in [name for name in TRANSFORMS if name in sweeps]:
            strengths = sweeps[kind]
            swept = [row for row in rows if row.get("defence_type") == kind and is_swept(row, sweeps)]
            panels.append(
                StepsPanel(
                    kind,
                    _axis_title(kind),
                    ["none", *(_tick(kind, value) for value in strengths)],
                    [
                        *((0, row) for row in bare),
                        *((1 + strengths.index(_strength(row) or 0.0), row) for row in swept),
                    ],
                )
            )
        if panels:
            title = f"{localizer} on {source}, behind transforms"
            plotted = [row for panel in panels for _, row in panel.records]
            unique_rows = {(row["defence"], row["knowledge"], row["attack"]): row for row in plotted}
            yield Drawing(
                f"transforms-{localizer}-{source}",
                title,
                "Mean F1 over images and settings of each attack, against the strength of the transform that images go through before "
                f"the localizer; bars are 95 % intervals, rings attacks through the transform. {_images(plotted)}",
                partial(draw_steps, panels, title),
                evaluation_csv(_without_controls(list(unique_rows.values()))),
            )


def _axis_title(kind: str) -> str:
    number = TRANSFORMS[kind].number
    return f"{number.name} in 255ths" if number.of_range else number.name


def _tick(kind: str, value: float) -> str:
    return f"{255 * value if TRANSFORMS[kind].number.of_range else value:.4g}"


def posting_drawings(records: Sequence[Record]) -> Iterator[Drawing]:
    """Yield a figure for each localizer of records after posting; of several sources all together."""
    for panel in posting_panels(records):
        rows = [
            {**row, "defence": f"{AFTER}{row['after']}" if row["after"] else row["defence"]}
            for _, row in panel.records
        ]
        yield Drawing(
            f"posting-{rows[0]['localizer']}-{rows[0]['source']}",
            panel.title,
            "Mean F1 over images and settings of each attack, on images as stored and after each step of posting; bars are 95 % "
            f"intervals, rings attacks through the step. {_images(rows)}",
            partial(draw_steps, [panel], ""),
            evaluation_csv(_without_controls(rows)),
        )


def posting_svg(records: Sequence[Record]) -> bytes:
    """Draw the records of ``posted_records`` as one SVG: a panel per localizer, a line for the originals and for each attack."""
    panels = list(posting_panels(records))
    return encode(partial(draw_steps, panels, "", columns=1), [SVG])[SVG]


def posting_panels(records: Sequence[Record]) -> Iterator[StepsPanel]:
    """Yield a panel for each localizer: images as stored, then after each step in the order of the records."""
    for localizer in dict.fromkeys(record["localizer"] for record in records):
        rows = [record for record in records if record["localizer"] == localizer]
        # ``all`` comes last where there are several sources
        rows = [row for row in rows if row["source"] == rows[-1]["source"]]
        steps = list(dict.fromkeys(row["after"] for row in rows))
        yield StepsPanel(
            f"{localizer} on {rows[0]['source']}: F1 after posting",
            "",
            [step or AS_STORED for step in steps],
            [(steps.index(row["after"]), row) for row in rows],
        )


def _without_controls(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record["attack"] not in _LEFT_OUT]


def _images(records: Sequence[Record]) -> str:
    counts = sorted({record["images"] for record in _without_controls(records)})
    return f"Over {counts[0]} images." if len(counts) == 1 else f"Over {counts[0]} to {counts[-1]} images."


def draw_steps(panels: Sequence[StepsPanel], title: str, theme: Theme, *, columns: int = 2) -> Figure:
    """Draw panels side by side; an attack keeps its colour, marker and dashes in all of them, and originals have the ink's."""
    attacks = list(
        dict.fromkeys(
            row["attack"]
            for panel in panels
            for _, row in panel.records
            if row["attack"] not in (*_LEFT_OUT, "clean")
        )
    )
    styles = {"clean": LineStyle(theme.ink, "o", "-")}
    styles |= {attack: line_style(number) for number, attack in enumerate(attacks)}
    columns = min(columns, len(panels))
    width = 2.2 + 0.55 * max(len(panel.ticks) for panel in panels)
    figure = new_figure(columns * width + 1.6, 2.9 * ceil(len(panels) / columns) + 0.3)
    grid = figure.subplots(ceil(len(panels) / columns), columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw_lines(axes, panel.ticks, [_line(panel, attack, styles[attack]) for attack in styles], top=1.0)
        axes.set_title(panel.title)
        axes.set_xlabel(panel.axis)
    for axes in grid[:, 0]:
        axes.set_ylabel("F1")
    if any(row["knowledge"] == "adaptive" for panel in panels for _, row in panel.records):
        grid[0, 0].plot(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=9,
            markerfacecolor="none",
            color=theme.ink,
            label=RINGS,
        )
    add_legend(figure, grid.flat[: len(panels)])
    figure.suptitle(title)
    return figure


def _line(panel: StepsPanel, attack: str, style: LineStyle) -> PanelLine:
    def points(knowledge: str) -> list[PanelPoint]:
        rows = [
            (step, row)
            for step, row in panel.records
            if row["attack"] == attack and row["knowledge"] == knowledge and row["f1"] is not None
        ]
        rows.sort(key=lambda pair: pair[0])
        return [
            PanelPoint(step, row["f1"], None if row["f1_ci"] is None else (row["f1_ci"][0], row["f1_ci"][1]))
            for step, row in rows
        ]

    label = attack_title(attack)
    return PanelLine(label, f"{panel.title}: {label}", style, points("oblivious"), rings=points("adaptive"))
