"""Compute F1 over the strength of each attack, with intervals, for the plots of a board."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from afbench.metrics import FloatArray
from afbench.plans import ATTACKS

from .resampling import interval, ratio, resample
from .statistics import has_few, image_mean_interval, number_images, sum_by_image


def curves(per_image: pd.DataFrame, localizer: str) -> list[dict[str, Any]]:
    """Return F1 over phi or steps for each attack, all sources together; strength 0 is the original."""
    rows = per_image[(per_image["localizer"] == localizer) & per_image["defined"]]
    if not len(rows):
        return []
    image, image_sources = number_images(rows["source"], rows["sample_id"])
    attack, attacks = pd.factorize(rows["attack"].to_numpy(object), sort=True)
    # NaN equals nothing, so attacks without phi get 0 to compare by
    keys = np.stack([attack, rows["phi"].fillna(0.0).to_numpy(), rows["steps"].to_numpy()], axis=1)
    settings, setting = np.unique(keys, axis=0, return_inverse=True)
    f1, undefended = (rows[name].to_numpy(np.float64) for name in ("f1", "f1_undefended"))
    # the second column counts the image, so that draws divide by the images this setting has
    columns = np.zeros((len(image_sources), 2 * len(settings)))
    for number in range(len(settings)):
        is_in = setting == number
        counts = np.bincount(image[is_in], minlength=len(image_sources))
        # a setting with two sets of parameters has two rows of one image
        sums = np.bincount(image[is_in], f1[is_in], minlength=len(image_sources))
        columns[:, 2 * number] = sums / np.maximum(counts, 1)
        columns[:, 2 * number + 1] = counts > 0
    intervals = _intervals(columns, image_sources)
    by_attack: dict[str, list[dict[str, Any]]] = {}
    for number, (attack_number, phi, steps) in enumerate(settings.tolist()):
        is_in = setting == number
        by_attack.setdefault(str(attacks[int(attack_number)]), []).append(
            {
                "strength": phi or int(steps),
                "f1": float(f1[is_in].mean()),
                "f1_ci": intervals[number],
                "undefended": float(undefended[is_in].mean()),
            }
        )
    start = by_attack.pop("clean", [])
    order = [*ATTACKS, *sorted(by_attack.keys() - ATTACKS.keys())]
    with_phi = {attacks[int(number)] for number, phi, _ in settings.tolist() if phi}
    return [
        {
            "attack": attack,
            "strength": "phi" if attack in with_phi else "steps",
            "points": start + by_attack[attack],
        }
        for attack in order
        if attack in by_attack
    ]


def _intervals(columns: FloatArray, image_sources: Sequence[str]) -> list[list[float] | None]:
    """Return the interval of each setting's mean F1.

    Args:
        columns: of each setting, F1 of every image and whether the setting has the image: ``(N, 2 * settings)``.
        image_sources: the source of each image.
    """
    has_many = [
        not has_few(columns[columns[:, number + 1] > 0, number]) for number in range(0, columns.shape[1], 2)
    ]
    sums = np.zeros((0, columns.shape[1]))
    # images are drawn together for all settings, and only where a setting has enough for such intervals
    if any(has_many):
        sums = np.stack(list(resample(columns, image_sources).values())).sum(axis=0)
    intervals = []
    for number, is_many in enumerate(has_many):
        f1, is_there = columns[:, 2 * number], columns[:, 2 * number + 1] > 0
        ends = (
            interval(ratio(sums[:, 2 * number], sums[:, 2 * number + 1]))
            if is_many
            else image_mean_interval(sum_by_image([f1[is_there]], np.flatnonzero(is_there), image_sources))
        )
        intervals.append(None if ends is None else [ends.low, ends.high])
    return intervals
