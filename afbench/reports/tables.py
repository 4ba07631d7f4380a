"""Figures as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.summary import finds_nothing, rp_mark

from .text import text_table

FIGURES = ("n", "f1_clean", "f1_adv", "rp", "f1_all_ones", "psnr", "ssim", "linf", "unchanged", "n_undefined")
_HEADS = ("images", "F1 orig", "F1 att", "RP %", "all-ones", "PSNR", "SSIM", "max lvl", "unchgd", "undef")
UNTRAINED = " (untrained)"
"""Stands behind a config whose localizer has random weights: its figures mean nothing."""
_DIGITS = {"f1_clean": 3, "f1_adv": 3, "rp": 1, "f1_all_ones": 3, "psnr": 1, "ssim": 4}


def stats_rows(configs: Mapping[str, ConfigManifest]) -> list[dict[str, Any]]:
    """Make one row per attacked config and source: what was done, so that no name need be parsed, and the manifest's figures."""
    return [
        {
            "config": name,
            "source": source,
            **_done(manifest.provenance),
            **split.summary,
            "finds_nothing": finds_nothing(split.summary["f1_clean"], split.summary.get("f1_all_ones")),
        }
        for name, manifest in configs.items()
        for source, split in manifest.splits.items()
        if split.summary is not None
    ]


def _done(provenance: Mapping[str, Any]) -> dict[str, Any]:
    localizer, phi = provenance["localizer"], provenance["phi"]
    return {
        "localizer": localizer["name"],
        "architecture": localizer["architecture"],
        "weights_sha256": localizer["weights_sha256"],
        "untrained": localizer["untrained"],
        "defence": provenance["defence"]["name"] if "defence" in provenance else None,
        "attack": provenance["attack"],
        "phi": phi,
        "phi_255": None if phi is None else float(255 * Fraction(phi)),
        "steps": provenance["steps"],
        "params": dict(provenance["params"]),
    }


def stats_table(configs: Mapping[str, ConfigManifest], width: int | None = None) -> str:
    """Draw the rows of ``stats_rows`` as an aligned text table, folded to ``width`` columns where it is given."""
    head = ["config", "source", *_HEADS]
    body = [
        [
            row["config"] + UNTRAINED * row["untrained"],
            row["source"],
            *(_figure(row, key) for key in FIGURES),
        ]
        for row in stats_rows(configs)
    ]
    return text_table(head, body, width=width)


def worst_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Draw the rows of ``worst_cases``: what the worst stored attack of each image leaves."""
    head = ["worst case per image", "source", "configs", "images", "F1 orig", "F1 worst", "RP %"]
    body = [
        [
            *(str(row[key]) for key in ("localizer", "source", "configs", "n")),
            figure(row["f1_clean"], 3),
            figure(row["f1_worst"], 3),
            rp_figure(row["rp"], row["f1_clean"], row["f1_all_ones"]),
        ]
        for row in rows
    ]
    return text_table(head, body, width=width)


def _figure(row: Mapping[str, Any], key: str) -> str:
    if key == "rp":
        return rp_figure(row["rp"], row["f1_clean"], row.get("f1_all_ones"))
    return figure(row.get(key), _DIGITS.get(key, 0))


def rp_figure(rp: float | None, f1_original: float | None, f1_all_ones: float | None) -> str:
    """Write RP for a table: ``-`` where it is a ratio to 0.000, with ``!`` where the originals are below all-ones masks."""
    mark = rp_mark(f1_original, f1_all_ones)
    return "-" if rp is None or mark == "-" else f"{rp:.1f}{mark}"


def figure(value: float | None, digits: int) -> str:
    """Write a number with fixed digits, ``-`` where it is undefined."""
    return "-" if value is None else f"{value:.{digits}f}"
