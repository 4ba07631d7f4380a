"""F1 over the strength of each attack, with intervals: what the pages of a board draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from afbench.plan import ATTACKS

from .statistics import interval, ratio, resample


def curves(per_image: pd.DataFrame, localizer: str) -> list[dict[str, Any]]:
    """F1 over phi or steps per attack, all sources together; strength 0 is the original."""
    rows = per_image[(per_image["localizer"] == localizer) & per_image["defined"]]
    images = rows[["source", "sample_id"]].drop_duplicates().sort_values(["source", "sample_id"])
    settings = (
        rows[["attack", "phi", "steps"]].drop_duplicates().assign(phi=lambda table: table["phi"].fillna(0.0))
    )
    columns, points = [], []
    for attack, phi, steps in settings.sort_values(["attack", "phi", "steps"]).itertuples(index=False):
        here = rows[(rows["attack"] == attack) & (rows["phi"].fillna(0.0) == phi) & (rows["steps"] == steps)]
        mean = here.groupby(["source", "sample_id"])["f1"].mean()  # another set of parameters is another row
        place = pd.MultiIndex.from_frame(images).get_indexer(mean.index)
        column = np.zeros((len(images), 2))
        column[place] = np.stack([mean, np.ones(len(mean))], axis=1)
        columns.append(column)
        points.append((attack, phi, steps, float(here["f1"].mean()), float(here["f1_undefended"].mean())))
    if not points:
        return []
    drawn = resample(np.concatenate(columns, axis=1), images["source"].tolist())
    sums = np.stack(list(drawn.values())).sum(axis=0)
    by_attack: dict[str, list[dict[str, Any]]] = {}
    for number, (attack, phi, steps, f1, undefended) in enumerate(points):
        ends = interval(ratio(sums[:, 2 * number], sums[:, 2 * number + 1])) if len(images) > 1 else None
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
