"""What anybody reaches without looking at an image, and submissions that are no more than that.

Two baselines stand beside every ranking: ``none``, the localizer without a defence, and ``all-ones``, masks that call every pixel
forged. Where a localizer is weak, the second may beat every defence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .statistics import DRAWS, difference_interval
from .tables import CONTROLS, build_tables, ranking_rows, score_rows

NONE, ALL_ONES = "none", "all-ones"
MOST = 0.95
"""Share of masks that must be alike."""
NEARLY = 0.99
"""Share of a mask's pixels that make it one of a single value."""
_ALIKE, _IMAGES = 0.005, 5
"""Standard deviation of the forged share below which masks have the same share everywhere, and images it takes to say so."""


@dataclass(frozen=True)
class Chance:
    """F1 of all-ones masks on the attacked images, and the 95 % interval of what a submission's F1 is above it."""

    f1: float | None
    low: float | None
    high: float | None

    @property
    def beaten(self) -> bool:
        """Whether the submission is better for certain."""
        return self.low is not None and self.low > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "f1": self.f1,
            "f1_above": None if self.low is None else [self.low, self.high],
            "beaten": self.beaten,
        }


def baseline_tables(per_image: pd.DataFrame, localizer: str, *, draws: int = DRAWS) -> dict[str, Any]:
    """The aggregates of both baselines on a localizer's images, by name.

    ``none`` is left out where the attacks went through a defence: what the bare localizer finds in such images is not known.
    """
    rows = per_image[per_image["localizer"] == localizer]
    attacked = score_rows(rows)
    attacked = attacked[attacked["defined"] & ~attacked["attack"].isin(CONTROLS)]
    tables = {}
    if not len(attacked) or (attacked["f1_undefended"] != attacked["f1_original"]).any():
        tables[NONE] = build_tables(rows, undefended=True, draws=draws)
    tables[ALL_ONES] = build_tables(_all_ones(rows), draws=draws)
    return {name: table["aggregates"][localizer] for name, table in tables.items()}


def _all_ones(rows: pd.DataFrame) -> pd.DataFrame:
    # no map goes with a mask that nobody made
    return rows.drop(columns=["auc", "f1_best"], errors="ignore").assign(
        tp=rows["tp"] + rows["fn"], fp=rows["fp"] + rows["tn"], fn=0, tn=0
    )


def chance(per_image: pd.DataFrame, localizer: str, *, draws: int = DRAWS) -> Chance:
    """Hold a submission's F1 on the attacked images of a localizer against that of all-ones masks, paired by image."""
    rows = ranking_rows(per_image[per_image["localizer"] == localizer])
    forged = rows["tp"] + rows["fn"]
    ones = 2 * forged / (forged + _pixels(rows))
    ends = difference_interval(
        rows["f1"], ones, rows["source"].tolist(), rows["sample_id"].tolist(), draws=draws
    )
    low, high = (None, None) if ends is None else ends
    return Chance(float(ones.mean()) if len(rows) else None, low, high)


def constant_masks(per_image: pd.DataFrame, localizer: str) -> str | None:
    """Why the masks of a localizer's images hardly depend on the image; None if they do.

    Empty masks under attack are what a beaten defence looks like, so they count only where the originals' are empty too.
    """
    rows = score_rows(per_image[per_image["localizer"] == localizer])
    rows = rows[rows["forged"]]
    share, truth = (rows["tp"] + rows["fp"]) / _pixels(rows), (rows["tp"] + rows["fn"]) / _pixels(rows)
    clean, attacked = rows["attack"] == "clean", ~rows["attack"].isin(CONTROLS)
    if not attacked.any():
        return None
    full = (share >= NEARLY) & (truth < NEARLY)
    empty = share <= np.minimum(1 - NEARLY, truth / 10)
    if full[attacked].mean() >= MOST:
        return "nearly every pixel is forged in nearly every mask"
    if empty[attacked].mean() >= MOST:
        return "nearly every mask is empty" if empty[clean].mean() >= MOST or not clean.any() else None
    spread = share[attacked].std(ddof=0)
    images = len(rows.loc[attacked, ["source", "sample_id"]].drop_duplicates())
    if images >= _IMAGES and spread < min(_ALIKE, truth[attacked].std(ddof=0) / 10):
        return "nearly the same share of every image is forged"
    return None


def _pixels(rows: pd.DataFrame) -> pd.Series:
    return rows["tp"] + rows["fp"] + rows["fn"] + rows["tn"]
