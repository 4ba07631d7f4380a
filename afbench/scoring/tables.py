"""From pixel counts per image to every figure of a score: per config and source, and the aggregates.

Only forged images have F1, RP and the like. One whose F1 is undefined, now or on its original, is counted in
``n_undefined`` and left out of every mean. Authentic images (empty truth) have a false positive rate, and that only.

Of the aggregates, ``micro`` is the mean over all attacked images, each stored image weighing the same; ``macro`` the mean
of the sources' figures, each source weighing the same; ``worst_case`` takes of each image the lowest F1 that any attack
left. These and ``per_source`` leave out the originals and the noise control, which ``per_attack`` shows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from afbench.metrics import FloatArray, ManyCounts, f1, fpr, iou, mcc, rp
from afbench.plan import ATTACKS

from .statistics import DRAWS, LEVEL, interval, ratio, resample

CONTROLS = ("clean", "noise")
"""What stands in the attack column and is no attack."""
KEYS = ["localizer", "config", "source", "sample_id"]
COLUMNS = [
    *["localizer", "source", "config", "attack", "phi", "steps", "sample_id"],
    *["tp", "fp", "fn", "tn", "f1_original", "f1_undefended"],
]
_OF_MAPS = ("auc", "f1_best")
_WORST = ""
"""Stands for a config where the worst case of each image is drawn with the others."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class _Drawn:
    """By source, ``(draws, configs, 3)``: sums of F1, of the originals' F1, and how many rows; same images for all."""

    by_source: Mapping[str, FloatArray]
    configs: Sequence[str]

    def sums(self, source: str, configs: Collection[str]) -> FloatArray:
        chosen = [number for number, config in enumerate(self.configs) if config in configs]
        return np.asarray(self.by_source[source][:, chosen].sum(axis=1))


def build_tables(
    per_image: pd.DataFrame,
    *,
    seen: Collection[str] = (),
    undefended: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Make the ``configs``, ``aggregates`` and ``bootstrap`` of score.json.

    Args:
        per_image: ``COLUMNS`` and, where maps were submitted, ``auc`` and ``f1_best``; one row per localizer, config,
            source and sample, in any order.
        seen: attacks, ``<localizer>-<attack>`` or configs that a defence was trained on.
        undefended: tell what the localizer reaches without a defence instead; of it, F1 alone is known.
        draws: of the bootstrap.
        seed: of the bootstrap, 0 or more.
    Returns:
        Plain lists, dicts and numbers; None where a figure is undefined. ``aggregates`` are by localizer, in them
        ``per_attack`` by attack and ``per_source`` by source.
    Raises:
        ValueError: if a column is missing or a row is there twice.
    """
    rows = score_rows(per_image)
    if undefended:
        rows = _undefended(rows)
    rows["seen"] = (
        rows["config"].isin(list(seen))
        | rows["attack"].isin(list(seen))
        | (rows["localizer"] + "-" + rows["attack"]).isin(list(seen))
    )
    configs: list[Figures] = []
    aggregates: dict[str, Any] = {}
    for localizer, mine in rows.groupby("localizer", sort=True):
        worst = _worst_rows(mine)
        drawn = _draw(mine, worst, draws, seed)
        configs += _config_rows(mine, drawn)
        aggregates[str(localizer)] = _aggregate(mine, worst, drawn)
    return {
        "configs": configs,
        "aggregates": aggregates,
        "bootstrap": {
            "draws": draws,
            "seed": seed,
            "level": LEVEL,
            "interval": "percentile",
            "unit": "image",
            "paired_by": "sample_id",
            "stratified_by": "source",
        },
    }


def score_rows(per_image: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows and add their scores, ``forged`` (the truth is not empty) and ``defined`` (means include the row).

    Raises:
        ValueError: if a column is missing or a row is there twice.
    """
    missing = [name for name in COLUMNS if name not in per_image.columns]
    if missing:
        raise ValueError(f"the table per image lacks the columns {', '.join(missing)}")
    rows = per_image.assign(**{name: math.nan for name in _OF_MAPS if name not in per_image.columns})
    order = {name: number for number, name in enumerate(["clean", *ATTACKS])}
    names = [*KEYS, "attack"]
    rows[names] = rows[names].astype(str)
    rows["_attack"] = rows["attack"].map(order).fillna(len(order))
    rows["_phi"] = rows["phi"].fillna(0.0)
    by = ["localizer", "_attack", "attack", "_phi", "steps", "config", "source", "sample_id"]
    rows = rows.sort_values(by, kind="stable", ignore_index=True).drop(columns=["_attack", "_phi"])
    twice = rows.duplicated(KEYS)
    if twice.any():
        raise ValueError(f"rows are there twice, first {rows.loc[twice, KEYS].iloc[0].tolist()}")
    counts = ManyCounts(*(rows[name].to_numpy(np.int64) for name in ManyCounts._fields))
    for name, score in {"f1": f1, "iou": iou, "mcc": mcc, "fpr": fpr}.items():
        rows[name] = score(counts)
    rows["forged"] = counts.tp + counts.fn > 0
    rows["defined"] = rows["forged"] & rows[["f1", "f1_original", "f1_undefended"]].notna().all(axis=1)
    return rows


def _undefended(rows: pd.DataFrame) -> pd.DataFrame:
    of_masks = ["iou", "mcc", "fpr", *_OF_MAPS]
    forged = rows[rows["forged"]].reset_index(drop=True)
    return forged.drop(columns=of_masks, errors="ignore").assign(f1=forged["f1_undefended"])


def ranking_rows(per_image: pd.DataFrame) -> pd.DataFrame:
    """The rows that ``micro`` averages, sorted and scored: what ``tie_groups`` is to be asked about.

    Raises:
        ValueError: as ``score_rows``.
    """
    rows = score_rows(per_image)
    return rows[rows["defined"] & ~rows["attack"].isin(CONTROLS)].reset_index(drop=True)


def _worst_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per attacked forged image: the lowest F1 of any attack, and the lowest that each left undefended."""
    attacked = rows[rows["forged"] & ~rows["attack"].isin(CONTROLS)]
    lowest = ["f1", "f1_undefended", "f1_original"]
    values = attacked[lowest].where(attacked["defined"])
    groups = pd.concat([attacked[["source", "sample_id", "seen"]], values], axis=1).groupby(
        ["source", "sample_id"], sort=True
    )
    worst = groups[lowest].min().join(groups["seen"].any()).reset_index()
    return worst.assign(config=_WORST, forged=True, defined=worst["f1"].notna())


def _draw(rows: pd.DataFrame, worst: pd.DataFrame, draws: int, seed: int) -> _Drawn:
    """Draw the forged images of one localizer once, for all its figures."""
    columns = ["config", "source", "sample_id", "f1", "f1_original", "defined"]
    forged = pd.concat([rows.loc[rows["forged"], columns], worst[columns]], ignore_index=True)
    images = forged[["source", "sample_id"]].drop_duplicates().sort_values(["source", "sample_id"])
    configs = list(dict.fromkeys([*rows["config"], _WORST]))
    used = forged[forged["defined"]]
    image = pd.MultiIndex.from_frame(images).get_indexer(
        pd.MultiIndex.from_frame(used[["source", "sample_id"]])
    )
    values = np.zeros((len(images), len(configs), 3))
    values[image, pd.Index(configs).get_indexer(used["config"])] = np.stack(
        [used["f1"], used["f1_original"], np.ones(len(used))], axis=1
    )
    drawn = resample(
        values.reshape(len(images), 3 * len(configs)), images["source"].tolist(), draws=draws, seed=seed
    )
    by_source = {source: sums.reshape(draws, len(configs), 3) for source, sums in drawn.items()}
    nothing = np.zeros((draws, len(configs), 3))
    return _Drawn({source: by_source.get(source, nothing) for source in sorted(set(rows["source"]))}, configs)


def _config_rows(rows: pd.DataFrame, drawn: _Drawn) -> list[Figures]:
    found = []
    for (config, source), mine in rows.groupby(["config", "source"], sort=False):
        first = mine.iloc[0]
        head = {
            "localizer": str(first["localizer"]),
            "source": str(source),
            "config": str(config),
            "attack": str(first["attack"]),
            "phi": _number(float(first["phi"])),
            "steps": int(first["steps"]),
        }
        found.append(head | _micro(mine, drawn))
    return found


def _aggregate(rows: pd.DataFrame, worst: pd.DataFrame, drawn: _Drawn) -> dict[str, Any]:
    attacked = rows[~rows["attack"].isin(CONTROLS)]
    sources = {str(name): mine for name, mine in attacked.groupby("source", sort=True)}
    return {
        "micro": _micro(attacked, drawn),
        "macro": _macro(attacked, list(sources.values()), drawn),
        "per_attack": {str(name): _micro(mine, drawn) for name, mine in rows.groupby("attack", sort=False)},
        "per_source": {
            name: _micro(mine, drawn) | {"worst_case": _micro(worst[worst["source"] == name], drawn)}
            for name, mine in sources.items()
        },
        "worst_case": _micro(worst, drawn),
    }


def _micro(rows: pd.DataFrame, drawn: _Drawn) -> Figures:
    """Figures of rows that all weigh the same."""
    used = rows[rows["defined"]]
    sums = np.zeros((len(next(iter(drawn.by_source.values()))), 3))
    for source, mine in used.groupby("source", sort=True):
        sums = sums + drawn.sums(str(source), mine["config"].unique())
    sure = _several_images(used)
    means, authentic = _means(used), rows[~rows["forged"]]
    return {
        **_head(rows, used),
        **means,
        "f1_ci": _ends(ratio(sums[:, 0], sums[:, 2])) if sure else None,
        "rp_ci": _ends(100.0 * ratio(sums[:, 0], sums[:, 1])) if sure else None,
        "seen_in_training": bool(rows["seen"].any()),
        **({"n_authentic": len(authentic), "fpr": _mean(authentic["fpr"])} if len(authentic) else {}),
    }


def _macro(rows: pd.DataFrame, sources: Sequence[pd.DataFrame], drawn: _Drawn) -> Figures:
    """Means over the sources that have a figure at all."""
    used = [mine[mine["defined"]] for mine in sources if mine["defined"].any()]
    each = [_means(mine) for mine in used]
    names = list(dict.fromkeys(name for one in each for name in one)) or list(_means(rows[:0]))
    sums = [drawn.sums(str(mine["source"].iloc[0]), mine["config"].unique()) for mine in used]
    sure = _several_images(rows[rows["defined"]])
    f1_drawn = [ratio(part[:, 0], part[:, 2]) for part in sums]
    rp_drawn = [100.0 * ratio(part[:, 0], part[:, 1]) for part in sums]
    return {
        **_head(rows, rows[rows["defined"]]),
        "n_sources": len(used),
        **{name: _mean_of([one.get(name) for one in each]) for name in names},
        "f1_ci": _ends(np.mean(f1_drawn, axis=0)) if sure else None,
        "rp_ci": _ends(np.mean(rp_drawn, axis=0)) if sure else None,
        "seen_in_training": bool(rows["seen"].any()),
    }


def _several_images(used: pd.DataFrame) -> bool:
    return any(len(used) and (used[name] != used[name].iloc[0]).any() for name in ("source", "sample_id"))


def _head(rows: pd.DataFrame, used: pd.DataFrame) -> Figures:
    forged = int(rows["forged"].sum())
    return {"n": forged, "n_undefined": forged - len(used)}


def _means(used: pd.DataFrame) -> Figures:
    """Point figures of rows that are all defined; those of maps only where there are maps."""
    now, undefended = _mean(used["f1"]), _mean(used["f1_undefended"])
    figures: Figures = {
        "f1": now,
        "rp": _number(rp(used["f1"].to_numpy(np.float64), used["f1_original"].to_numpy(np.float64))),
        "delta_f1": None if now is None or undefended is None else now - undefended,
    }
    figures |= {name: _mean(used[name]) for name in ("iou", "mcc") if name in used}
    return figures | {
        name: _mean(used[name]) for name in _OF_MAPS if name in used and used[name].notna().any()
    }


def _mean(values: pd.Series) -> float | None:
    """The mean of what is defined, alike in any order."""
    known = values.to_numpy(np.float64)
    return _mean_of(known[~np.isnan(known)].tolist())


def _mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of numbers; None if there are none, or one is None."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _ends(drawn: FloatArray) -> list[float] | None:
    found = interval(drawn)
    return None if found is None else [found.low, found.high]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
