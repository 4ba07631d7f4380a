"""Draw originals, attacked images and the masks found in them, bare and behind defences, as the ANSM paper's Fig. 7."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from afbench.core import ByteImage

from .drawing import Drawing, Theme, new_figure
from .evaluation import attack_title
from .tables import figure as number_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 22


class FoundMask(NamedTuple):
    """A predicted mask, uint8 ``(H, W)``, with its F1; None where undefined."""

    mask: ByteImage
    f1: float | None


class MaskRow(NamedTuple):
    """One image under one attack: pictures, the true mask, and the masks found in the original, then in the attacked image by side."""

    sample_id: str
    config: str
    attack: str
    original: ByteImage
    attacked: ByteImage
    truth: ByteImage
    found_in_original: FoundMask
    predictions: Mapping[str, FoundMask]


def mask_drawing(localizer: str, source: str, rows: Sequence[MaskRow], terms: str) -> Drawing:
    """Return the figure of some images, each under the strongest setting of every attack."""
    title = f"Masks of {localizer} on {source}"
    return Drawing(
        f"masks-{localizer}-{source}",
        title,
        "Images spread from the lowest F1 of the originals to the highest, under the strongest setting of each attack; white is called "
        f"forged, numbers are F1.{f' Pictures of {source} are under its terms: {terms}.' if terms else ''}",
        partial(draw_masks, rows, title),
        _csv(rows),
        raster=True,
    )


def draw_masks(rows: Sequence[MaskRow], title: str, theme: Theme) -> Figure:
    """Draw a row for each image and attack."""
    sides = list(rows[0].predictions)
    heads = ["original", "attacked", "true mask", "found in original"]
    heads += ["found in attacked" if side == "none" else f"behind {side}" for side in sides]
    figure = new_figure(1.3 * len(heads) + 1.3, 1.25 * len(rows) + 0.7)
    grid = figure.subplots(len(rows), len(heads), squeeze=False)
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=8)
    for panels, row in zip(grid, rows, strict=True):
        predictions = [row.found_in_original, *(row.predictions[side] for side in sides)]
        pictures = [row.original, row.attacked, row.truth, *(mask.mask for mask in predictions)]
        for axes, picture in zip(panels, pictures, strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            for spine in axes.spines.values():
                spine.set(visible=True, color=theme.grid)
        for axes, mask in zip(panels[3:], predictions, strict=True):
            axes.set_xlabel(number_text(mask.f1, 3), fontsize=8, labelpad=2)
        short = row.sample_id if len(row.sample_id) <= _LONGEST else f"{row.sample_id[: _LONGEST - 3]}..."
        panels[0].set_ylabel(
            f"{attack_title(row.attack)}\n{short}", fontsize=7, rotation=0, ha="right", va="center"
        )
    figure.suptitle(title)
    return figure


def _csv(rows: Sequence[MaskRow]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["sample_id", "config", "f1_original", *(f"f1_{side}" for side in rows[0].predictions)])
    for row in rows:
        f1 = [row.found_in_original.f1, *(mask.f1 for mask in row.predictions.values())]
        writer.writerow([row.sample_id, row.config, *("" if value is None else repr(value) for value in f1)])
    return stream.getvalue()
