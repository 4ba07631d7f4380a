"""Compare submissions with masks that anybody can make without looking at an image.

Two baselines stand beside every ranking: ``none``, the localizer without a defence, and ``all-ones``, masks that call every pixel
forged. Where a localizer is weak, the second may beat every defence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from .resampling import DRAWS
from .score_tables import CONTROLS, build_tables, headline_rows, ranking_rows, score_rows
from .statistics import difference_interval

NONE, ALL_ONES = "none", "all-ones"
ALIKE_SHARE = 0.95
"""Share of masks that must be alike."""
UNIFORM_SHARE = 0.99
"""Share of a mask's pixels that make it one of a single value."""
_ALIKE, _IMAGES = 0.005, 5
"""Standard deviation of the forged share below which masks have the same share everywhere, and images it takes to say so."""


_CLEARLY = 0.1
"""Difference of mean F1 above which masks fit better with black for white."""


@dataclass(frozen=True)
class Chance:
    """F1 of all-ones masks on the attacked images that rank, and the 95 % interval of a submission's F1 minus that."""

    f1: float | None
    low: float | None
    high: float | None

    @property
    def beaten(self) -> bool:
        """Return whether the submission is better than all-ones masks, by its whole interval."""
        return self.low is not None and self.low > 0

    def as_json(self) -> dict[str, Any]:
        return {
            "f1": self.f1,
            "f1_above": None if self.low is None else [self.low, self.high],
            "beaten": self.beaten,
        }


def baseline_tables(per_image: pd.DataFrame, localizer: str, *, draws: int = DRAWS) -> dict[str, Any]:
    """Compute the aggregates of both baselines on a localizer's images, by name.

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
    """Compare a submission's F1 on the attacked images that rank it with that of all-ones masks, paired by image."""
    rows = headline_rows(ranking_rows(per_image[per_image["localizer"] == localizer]))
    forged = rows["tp"] + rows["fn"]
    ones = 2 * forged / (forged + _pixels(rows))
    ends = difference_interval(
        rows["f1"], ones, rows["source"].tolist(), rows["sample_id"].tolist(), draws=draws
    )
    low, high = (None, None) if ends is None else ends
    return Chance(float(ones.mean()) if len(rows) else None, low, high)


def constant_masks(per_image: pd.DataFrame, localizer: str) -> str | None:
    """Explain in which way masks hardly depend on their image; None if they do depend on it.

    A defence that fails leaves empty masks under attack, so these count only where the originals' masks are empty too.
    """
    rows = score_rows(per_image[per_image["localizer"] == localizer])
    rows = rows[rows["forged"]]
    share, truth = (rows["tp"] + rows["fp"]) / _pixels(rows), (rows["tp"] + rows["fn"]) / _pixels(rows)
    clean, attacked = rows["attack"] == "clean", ~rows["attack"].isin(CONTROLS)
    if not attacked.any():
        return None
    # a white mask is right where the whole image is forged, and a black one nearly so where hardly a pixel is
    full = (share >= UNIFORM_SHARE) & (truth < UNIFORM_SHARE)
    empty = share <= np.minimum(1 - UNIFORM_SHARE, truth / 10)
    if full[attacked].mean() >= ALIKE_SHARE:
        return "nearly every pixel is forged in nearly every mask"
    if empty[attacked].mean() >= ALIKE_SHARE:
        return "nearly every mask is empty" if empty[clean].mean() >= ALIKE_SHARE or not clean.any() else None
    spread = share[attacked].std(ddof=0)
    images = len(rows.loc[attacked, ["source", "sample_id"]].drop_duplicates())
    # if all images are forged by the same share, good masks have the same share, too
    if images >= _IMAGES and spread < min(_ALIKE, truth[attacked].std(ddof=0) / 10):
        return "nearly the same share of every image is forged"
    return None


def inverted_masks(per_image: pd.DataFrame, localizer: str) -> str | None:
    """Explain that masks of the originals fit the truth better with black for white; None if they don't."""
    rows = score_rows(per_image[per_image["localizer"] == localizer])
    rows = rows[rows["forged"] & (rows["attack"] == "clean")]
    own, ones = (
        rows["f1"].mean(),
        (2 * (rows["tp"] + rows["fn"]) / (rows["tp"] + rows["fn"] + _pixels(rows))).mean(),
    )
    inverted = (2 * rows["fn"] / (2 * rows["fn"] + rows["tn"] + rows["tp"])).mean()
    # nearly empty masks, inverted, are nearly masks of ones
    if not inverted > max(own, ones) + _CLEARLY:
        return None
    return f"masks of the originals look inverted: F1 {own:.3f}, and {inverted:.3f} with black for white"


def _pixels(rows: pd.DataFrame) -> pd.Series:
    return rows["tp"] + rows["fp"] + rows["fn"] + rows["tn"]
