"""Compute F1 over the strength of each attack, with intervals, for the plots of a board."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from afbench.plans import ATTACKS

from .resampling import interval, ratio, resample
from .statistics import SMALL, mean_interval


def curves(per_image: pd.DataFrame, localizer: str) -> list[dict[str, Any]]:
    """Return F1 over phi or steps for each attack, all sources together; strength 0 is the original."""
    rows = per_image[(per_image["localizer"] == localizer) & per_image["defined"]]
    images = rows[["source", "sample_id"]].drop_duplicates().sort_values(["source", "sample_id"])
    settings = (
        # NaN equals nothing, so attacks without phi get 0 to compare by
        rows[["attack", "phi", "steps"]].drop_duplicates().assign(phi=lambda table: table["phi"].fillna(0.0))
    )
    means, columns, points = [], [], []
    for attack, phi, steps in settings.sort_values(["attack", "phi", "steps"]).itertuples(index=False):
        setting_rows = rows[
            (rows["attack"] == attack) & (rows["phi"].fillna(0.0) == phi) & (rows["steps"] == steps)
        ]
        # a setting with two sets of parameters has two rows of one image
        mean = setting_rows.groupby(["source", "sample_id"])["f1"].mean()
        positions = pd.MultiIndex.from_frame(images).get_indexer(mean.index)
        # the second column counts the image, so that draws divide by the images this setting has
        column = np.zeros((len(images), 2))
        column[positions] = np.stack([mean, np.ones(len(mean))], axis=1)
        means.append(mean)
        columns.append(column)
        points.append(
            (
                attack,
                phi,
                steps,
                float(setting_rows["f1"].mean()),
                float(setting_rows["f1_undefended"].mean()),
            )
        )
    if not points:
        return []
    sums_by_source = resample(np.concatenate(columns, axis=1), images["source"].tolist())
    sums = np.stack(list(sums_by_source.values())).sum(axis=0)
    by_attack: dict[str, list[dict[str, Any]]] = {}
    for number, (attack, phi, steps, f1, undefended) in enumerate(points):
        names = means[number].index
        ends = (
            mean_interval(
                means[number], names.get_level_values("source"), names.get_level_values("sample_id")
            )
            if len(names) < SMALL
            else interval(ratio(sums[:, 2 * number], sums[:, 2 * number + 1]))
        )
        by_attack.setdefault(str(attack), []).append(
            {
                "strength": float(phi) if phi else int(steps),
                "f1": f1,
                "f1_ci": None if ends is None else [ends.low, ends.high],
                "undefended": undefended,
            }
        )
    start = by_attack.pop("clean", [])
    order = [*ATTACKS, *sorted(by_attack.keys() - ATTACKS.keys())]
    return [
        {
            "attack": attack,
            "strength": "steps" if settings.loc[settings["attack"] == attack, "phi"].eq(0).all() else "phi",
            "points": start + by_attack[attack],
        }
        for attack in order
        if attack in by_attack
    ]
