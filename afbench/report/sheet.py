"""A contact sheet: what an attack changed, and what the localizer made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from afbench.core import ByteImage

COLUMNS = ("original", "attacked", "noise x40", "mask", "found before", "found after")
GAIN = 40
_CELL, _GAP, _HEAD, _LABEL = 144, 6, 22, 240


@dataclass(frozen=True)
class SheetRow:
    """One row of a sheet: a label of some lines, uint8 RGB images, uint8 masks ``(H, W)``."""

    label: Sequence[str]
    original: ByteImage
    attacked: ByteImage
    mask: ByteImage
    before: ByteImage
    after: ByteImage


def contact_sheet(rows: Sequence[SheetRow], title: str) -> Image.Image:
    """Draw rows of original, attacked, their difference times 40 around grey, truth, and both predictions."""
    return draw_sheet(COLUMNS, [(row.label, _cells(row)) for row in rows], title)


def draw_sheet(
    columns: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[ByteImage]]], title: str
) -> Image.Image:
    """Draw rows of a label, of some lines, and one picture or mask for each column."""
    width = _LABEL + len(columns) * (_CELL + _GAP) + _GAP
    height = 2 * _HEAD + len(rows) * (_CELL + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), (250, 250, 250))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    draw.text((_GAP, 4), title, fill=(20, 20, 20), font=font)
    for column, name in enumerate(columns):
        draw.text((_LABEL + column * (_CELL + _GAP), _HEAD + 2), name, fill=(20, 20, 20), font=font)
    for number, (label, cells) in enumerate(rows):
        top = 2 * _HEAD + number * (_CELL + _GAP)
        draw.multiline_text((_GAP, top + 4), "\n".join(label), fill=(20, 20, 20), font=font, spacing=5)
        for column, pixels in enumerate(cells):
            sheet.paste(_fit(pixels), (_LABEL + column * (_CELL + _GAP), top))
    return sheet


def _cells(row: SheetRow) -> tuple[ByteImage, ...]:
    noise = (row.attacked.astype(np.int16) - row.original.astype(np.int16)) * GAIN + 128
    return (
        row.original,
        row.attacked,
        np.clip(noise, 0, 255).astype(np.uint8),
        row.mask,
        row.before,
        row.after,
    )


def _fit(pixels: ByteImage) -> Image.Image:
    """Scale to the cell, keeping the shape; small pictures stay pixel-sharp."""
    picture = Image.fromarray(pixels).convert("RGB")
    scale = _CELL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
