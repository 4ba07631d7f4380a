"""Write a report as one page that holds its figures, and as files for a paper: PNG, SVG, PDF, CSV and LaTeX."""

from __future__ import annotations

import csv
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from afbench.version import __version__

from .drawing import DARK, PDF, PNG, SVG, Drawing, encode
from .html_pages import content_policy, inline_file, page_environment

PAGE = "index.html"
_LONGEST = 120
_PAGE_DPI = 100
"""Dots an inch of photographs in the page, which holds each figure twice."""
_MEDIA = {PNG: "image/png", SVG: "image/svg+xml"}
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+(e-?[0-9]+)?")
_FIGURE = re.compile(r"-|[+-]?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?!?")


class ReportTable(NamedTuple):
    """A table: its file name without suffix, what it says, one grid of texts per localizer with the head first, LaTeX and CSV."""

    name: str
    title: str
    note: str
    grids: Sequence[Sequence[Sequence[str]]]
    latex: str
    csv: str


class ReportSection(NamedTuple):
    """Figures and tables under one heading."""

    title: str
    text: str
    figures: Sequence[Drawing] = ()
    tables: Sequence[ReportTable] = ()


class ReportGap(NamedTuple):
    """A figure or table that the report lacks: why, and the command that makes what it is drawn from, if one does."""

    title: str
    reason: str
    command: str = ""


def render_report(
    title: str,
    inputs: Sequence[str],
    sections: Sequence[ReportSection],
    missing: Sequence[ReportGap],
    *,
    advance: Callable[[int], None] = lambda figures: None,
) -> dict[str, bytes]:
    """Draw every figure, light and dark, and return all files by name, the page last; every text of the page is escaped.

    Args:
        title: of the page.
        inputs: lines that say what the report is drawn from.
        sections: those without a figure and a table are left out.
        missing: what could not be drawn.
        advance: called with 1 for each figure that is drawn.
    """
    files: dict[str, bytes] = {}
    views = []
    for section in sections:
        if not (section.figures or section.tables):
            continue
        plates = []
        for drawing in section.figures:
            plates.append(_plate(drawing, files))
            advance(1)
        tables = [_table(table, files) for table in section.tables]
        views.append({"title": section.title, "text": section.text, "figures": plates, "tables": tables})
    environment = page_environment()
    environment.tests["figure"] = lambda cell: bool(_FIGURE.fullmatch(cell))
    style = inline_file("style.css") + inline_file("report.css")
    page = environment.get_template("report.html.j2").render(
        title=title,
        inputs=inputs,
        sections=views,
        missing=missing,
        style=style,
        policy=content_policy(style),
        version=__version__,
    )
    return {**files, PAGE: page.encode()}


def _plate(drawing: Drawing, files: dict[str, bytes]) -> Mapping[str, Any]:
    """Add the files of a figure and return what the page shows of it."""
    on_page = PNG if drawing.raster else SVG
    on_disk = encode(drawing.draw, (PNG, SVG, PDF))
    light = encode(drawing.draw, (PNG,), dpi=_PAGE_DPI) if drawing.raster else on_disk
    dark = encode(drawing.draw, (on_page,), DARK, dpi=_PAGE_DPI)
    name = _file_name(drawing.name, files)
    own_files = {f"{name}.{suffix}": data for suffix, data in on_disk.items()}
    if drawing.csv:
        own_files[f"{name}.csv"] = drawing.csv.encode()
    files.update(own_files)
    return {
        "title": drawing.title,
        "caption": drawing.caption,
        "light": _data_uri(light[on_page], on_page),
        "dark": _data_uri(dark[on_page], on_page),
        "files": list(own_files),
        "numbers": _rounded(list(csv.reader(drawing.csv.splitlines()))),
    }


def _table(table: ReportTable, files: dict[str, bytes]) -> Mapping[str, Any]:
    names = f"{table.name}.tex", f"{table.name}.csv"
    files.update(zip(names, (table.latex.encode(), table.csv.encode()), strict=True))
    return {**table._asdict(), "files": names}


def _rounded(rows: list[list[str]]) -> list[list[str]]:
    """Shorten long decimals for the page; the CSV beside it keeps them."""
    return [[f"{float(cell):.4g}" if _DECIMAL.fullmatch(cell) else cell for cell in row] for row in rows]


def _file_name(name: str, files: Mapping[str, bytes]) -> str:
    """Return a name that no other figure has and every disk takes."""
    short = re.sub(r"[^A-Za-z0-9._-]+", "_", name)
    if len(short) > _LONGEST:
        short = f"{short[:_LONGEST]}-{sha256(name.encode()).hexdigest()[:6]}"
    number, unique = 1, short
    while f"{unique}.{PNG}" in files:
        number += 1
        unique = f"{short}-{number}"
    return unique


def _data_uri(data: bytes, suffix: str) -> str:
    return f"data:{_MEDIA[suffix]};base64,{b64encode(data).decode()}"
