"""Draw a contact sheet: what an attack changed, and what the localizer predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from afbench.core import ByteImage

COLUMNS = ("original", "attacked", "noise x40", "mask", "found before", "found after")
GAIN = 40
_CELL, _GAP, _HEAD, _LABEL, _LINE = 144, 6, 22, 240, 19
_Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


@dataclass(frozen=True)
class SheetRow:
    """One row of a sheet: a label of some lines, uint8 RGB images, uint8 masks ``(H, W)``."""

    label: Sequence[str]
    original: ByteImage
    attacked: ByteImage
    mask: ByteImage
    original_prediction: ByteImage
    attacked_prediction: ByteImage


def contact_sheet(rows: Sequence[SheetRow], title: str) -> Image.Image:
    """Draw rows of original, attacked, their difference times 40 around grey, truth, and both predictions."""
    return draw_sheet(COLUMNS, [(row.label, _cells(row)) for row in rows], title)


def draw_sheet(
    columns: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[ByteImage]]], title: str
) -> Image.Image:
    """Draw rows of a label, of some lines, and one picture or mask for each column."""
    font = ImageFont.load_default(size=13)
    width = _LABEL + len(columns) * (_CELL + _GAP) + _GAP
    titles = _wrapped(title, width - 2 * _GAP, font)
    heads = [_wrapped(name, _CELL, font) for name in columns]
    labels = [
        [line for text in label for line in _wrapped(text, _LABEL - 2 * _GAP, font)] for label, _ in rows
    ]
    heights = [max(_CELL, len(lines) * _LINE + 4) + _GAP for lines in labels]
    below_title = _HEAD + (len(titles) - 1) * _LINE
    top = below_title + _HEAD + (max(map(len, heads), default=1) - 1) * _LINE
    sheet = Image.new("RGB", (width, top + sum(heights) + _GAP), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)

    def write(x: int, y: int, lines: Sequence[str]) -> None:
        for number, line in enumerate(lines):
            draw.text((x, y + number * _LINE), line, fill=(20, 20, 20), font=font)

    write(_GAP, 4, titles)
    for column, lines in enumerate(heads):
        write(_LABEL + column * (_CELL + _GAP), below_title + 2, lines)
    for (_, cells), lines, height in zip(rows, labels, heights, strict=True):
        write(_GAP, top + 4, lines)
        for column, pixels in enumerate(cells):
            sheet.paste(_fit(pixels), (_LABEL + column * (_CELL + _GAP), top))
        top += height
    return sheet


def _wrapped(text: str, width: int, font: _Font) -> list[str]:
    """Break a text into lines of at most ``width`` pixels, after a sign that separates words if one is near."""
    lines = []
    while font.getlength(text) > width and len(text) > 1:
        fits = next((n for n in range(len(text) - 1, 1, -1) if font.getlength(text[:n]) <= width), 1)
        apart = max(text.rfind(sign, 0, fits) for sign in " -_/,") + 1
        cut = apart if 2 * apart > fits else fits
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, text]


def _cells(row: SheetRow) -> tuple[ByteImage, ...]:
    noise = (row.attacked.astype(np.int16) - row.original.astype(np.int16)) * GAIN + 128
    return (
        row.original,
        row.attacked,
        np.clip(noise, 0, 255).astype(np.uint8),
        row.mask,
        row.original_prediction,
        row.attacked_prediction,
    )


def _fit(pixels: ByteImage) -> Image.Image:
    """Scale to the cell, keeping the shape; small pictures stay pixel-sharp."""
    picture = Image.fromarray(pixels).convert("RGB")
    scale = _CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
