"""Draw with matplotlib: the same bytes every time, on a light and a dark page, told apart by people with any colour vision.

matplotlib is imported only where something is drawn. No state of pyplot is touched, so notebooks keep theirs.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG, SVG, PDF = "png", "svg", "pdf"


class Theme(NamedTuple):
    """Colours of ink, of lines in the background and of the page."""

    ink: str
    grid: str
    page: str


LIGHT = Theme("#1c1f22", "#d5d8d1", "#ffffff")
DARK = Theme("#e9e7e2", "#373d43", "#15181b")
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without black, which a dark page swallows, and yellow, which paper does."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))


class LineStyle(NamedTuple):
    """How a line is told apart: by colour, marker and dashes, each of which does it alone for some numbers of lines."""

    colour: str
    marker: str
    dash: Any


class Drawing(NamedTuple):
    """A figure to be made: its file name without suffix, what it shows, and a function that draws it in a theme.

    ``csv`` are the plotted numbers. ``raster`` asks for a page with pixels instead of vectors, as suits photographs.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Theme], Figure]
    csv: str
    raster: bool = False


def line_style(number: int) -> LineStyle:
    """Return the style of the line with this number, of a sequence that does not repeat before 132."""
    return LineStyle(
        _COLOURS[number % len(_COLOURS)],
        _MARKERS[number % len(_MARKERS)],
        _DASHES[number % len(_DASHES)],
    )


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, whose parts move apart by themselves."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def encode(
    draw: Callable[[Theme], Figure], suffixes: Sequence[str], theme: Theme = LIGHT, *, dpi: int = 200
) -> dict[str, bytes]:
    """Draw a figure once and return it in each format: ``png``, ``svg`` or ``pdf``, without a date or a version.

    ``dpi`` are the dots an inch of PNG, and of pictures in the others.
    """
    from matplotlib import rc_context

    with rc_context(_settings(theme)):
        figure = draw(theme)
        return {suffix: _saved(figure, suffix, dpi) for suffix in suffixes}


def _settings(theme: Theme) -> dict[str, Any]:
    from matplotlib import rcParamsDefault

    # a user's matplotlibrc would give other bytes, and could ask for LaTeX
    defaults = {key: value for key, value in rcParamsDefault.items() if key != "backend"}
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    page = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    return {
        **defaults,
        **dict.fromkeys(ink, theme.ink),
        **dict.fromkeys(page, theme.page),
        "font.family": ["DejaVu Sans"],
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "figure.titlesize": 11.0,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.7,
        "legend.frameon": False,
        # a name is no formula, whatever signs are in it
        "text.parse_math": False,
        "text.usetex": False,
        # ids in the file follow from this instead of from chance
        "svg.hashsalt": "afbench",
        "svg.fonttype": "path",
        "pdf.fonttype": 42,
    }


def _saved(figure: Figure, suffix: str, dpi: int) -> bytes:
    metadata = {
        PNG: {"Software": None},
        SVG: {"Date": None, "Creator": None},
        PDF: {"CreationDate": None, "Creator": None, "Producer": None},
    }[suffix]
    stream = io.BytesIO()
    figure.savefig(stream, format=suffix, dpi=dpi, metadata=metadata)
    return stream.getvalue()
