"""Summarise rows as the figures of one config and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

SUMMARY_COLUMNS = (
    "f1_clean",
    "f1_adv",
    "psnr",
    "ssim",
    "linf",
    "zero_gradient_pixels",
    "tp",
    "fp",
    "fn",
    "tn",
)

_ZERO = 0.0005
"""Below this, F1 reads 0.000, and a ratio to it is noise."""


def finds_nothing(f1_original: float | None, f1_all_ones: float | None) -> bool:
    """Return whether F1 on the originals is 0.000, or below that of masks that call every pixel forged."""
    return f1_original is not None and f1_original < max(_ZERO, f1_all_ones or 0.0)


def rp_mark(f1_original: float | None, f1_all_ones: float | None) -> str:
    """Return how a table marks RP: ``-`` in place of a ratio to 0.000, ``!`` after a ratio to less than all-ones masks score."""
    if f1_original is not None and f1_original < _ZERO:
        return "-"
    return "!" if finds_nothing(f1_original, f1_all_ones) else ""


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Average the rows of one config and split.

    F1 is a mean over the images where it is defined before and after (``n_undefined`` counts the others), and
    RP is 100 times the one mean over the other; PSNR is the mean over changed images (``unchanged`` counts the others). ``f1_all_ones`` is what a
    mask that calls every pixel forged would score on the same images: chance.
    """
    rows = list(rows)
    defined = [row for row in rows if row["f1_clean"] is not None and row["f1_adv"] is not None]
    f1_clean, f1_adv = _mean(defined, "f1_clean"), _mean(defined, "f1_adv")
    return {
        "n": len(rows),
        "n_undefined": len(rows) - len(defined),
        "unchanged": sum(row["linf"] == 0 for row in rows),
        "f1_clean": f1_clean,
        "f1_adv": f1_adv,
        "rp": 100.0 * f1_adv / f1_clean if f1_clean and f1_adv is not None else None,
        "f1_all_ones": fmean(map(_all_ones, defined)) if defined else None,
        "psnr": _mean([row for row in rows if row["psnr"] is not None], "psnr"),
        "ssim": _mean([row for row in rows if row["ssim"] is not None], "ssim"),
        "linf": max((row["linf"] for row in rows), default=0),
        "zero_gradient_pixels": sum(row["zero_gradient_pixels"] or 0 for row in rows),
    }


def _mean(rows: list[Mapping[str, Any]], column: str) -> float | None:
    return fmean(float(row[column]) for row in rows) if rows else None


def _all_ones(row: Mapping[str, Any]) -> float:
    forged, pixels = row["tp"] + row["fn"], row["tp"] + row["fp"] + row["fn"] + row["tn"]
    return float(2 * forged / (forged + pixels))
