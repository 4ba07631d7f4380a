"""Compute all figures of a score from pixel counts per image: per config and source, and the aggregates.

Only forged images have F1, RP and the like. An image whose F1 is undefined, attacked or original, is counted in
``n_undefined`` and left out of every mean. Authentic images (empty truth) only have a false positive rate.

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
from afbench.plans import ATTACKS
from afbench.plans.headline import ALL, headline_attack

from .bootstrap_t import bootstrap_t
from .resampling import DRAWS, LEVEL, Interval, interval, ratio, resample
from .statistics import SMALL, images_of_rows, mean_interval, rp_interval

CONTROLS = ("clean", "noise")
"""Values of the attack column that are no attacks."""
KEYS = ["localizer", "config", "source", "sample_id"]
COLUMNS = [
    *["localizer", "source", "config", "attack", "phi", "steps", "sample_id"],
    *["tp", "fp", "fn", "tn", "f1_original", "f1_undefended"],
]
_OF_MASKS = {"iou": iou, "mcc": mcc}
"""Scores of a mask besides F1, each computed from pixel counts: a new one is a line here."""
_OF_MAPS = ("auc", "f1_best")
_WORST = ""
"""Stands for a config where the worst case of each image is drawn with the others."""

Figures = dict[str, Any]


@dataclass(frozen=True)
class _Bootstrap:
    """Bootstrap sums by source, ``(draws, configs, 3)``: of F1, of the originals' F1, of rows; all over the same images."""

    by_source: Mapping[str, FloatArray]
    configs: Sequence[str]
    draws: int
    seed: int

    def sums(self, source: str, configs: Collection[str]) -> FloatArray:
        columns = [number for number, config in enumerate(self.configs) if config in configs]
        return np.asarray(self.by_source[source][:, columns].sum(axis=1))


def build_tables(
    per_image: pd.DataFrame,
    *,
    seen_in_training: Collection[str] = (),
    undefended: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Make the ``configs``, ``aggregates`` and ``bootstrap`` of score.json.

    Args:
        per_image: ``COLUMNS`` and, where maps were submitted, ``auc`` and ``f1_best``; one row per localizer, config,
            source and sample, in any order.
        seen_in_training: attacks, ``<localizer>-<attack>`` or configs that a defence was trained on.
        undefended: describe the localizer without a defence instead; only its F1 is known.
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
        rows["config"].isin(list(seen_in_training))
        | rows["attack"].isin(list(seen_in_training))
        | (rows["localizer"] + "-" + rows["attack"]).isin(list(seen_in_training))
    )
    configs: list[Figures] = []
    aggregates: dict[str, Any] = {}
    for localizer, localizer_rows in rows.groupby("localizer", sort=True):
        worst = _worst_rows(localizer_rows)
        bootstrap = _draw(localizer_rows, worst, draws, seed)
        configs += _config_rows(localizer_rows, bootstrap)
        aggregates[str(localizer)] = _aggregate(localizer_rows, worst, bootstrap)
    return {
        "configs": configs,
        "aggregates": aggregates,
        "bootstrap": {
            "draws": draws,
            "seed": seed,
            "level": LEVEL,
            "interval": "percentile",
            f"interval_below_{SMALL}_images": "bootstrap-t",
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
    # categories would sort in their own order, and missing combinations would appear in groups
    rows[names] = rows[names].astype(str)
    rows["_attack"] = rows["attack"].map(order).fillna(len(order))
    rows["_phi"] = rows["phi"].fillna(0.0)
    by = ["localizer", "_attack", "attack", "_phi", "steps", "config", "source", "sample_id"]
    rows = rows.sort_values(by, kind="stable", ignore_index=True).drop(columns=["_attack", "_phi"])
    twice = rows.duplicated(KEYS)
    if twice.any():
        raise ValueError(f"rows are there twice, first {rows.loc[twice, KEYS].iloc[0].tolist()}")
    counts = ManyCounts(*(rows[name].to_numpy(np.int64) for name in ManyCounts._fields))
    for name, score in {"f1": f1, **_OF_MASKS, "fpr": fpr}.items():
        rows[name] = score(counts)
    rows["forged"] = counts.tp + counts.fn > 0
    rows["defined"] = rows["forged"] & rows[["f1", "f1_original", "f1_undefended"]].notna().all(axis=1)
    return rows


def _undefended(rows: pd.DataFrame) -> pd.DataFrame:
    of_masks = [*_OF_MASKS, "fpr", *_OF_MAPS]
    forged = rows[rows["forged"]].reset_index(drop=True)
    return forged.drop(columns=of_masks, errors="ignore").assign(f1=forged["f1_undefended"])


def ranking_rows(per_image: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that ``micro`` averages, sorted and scored, for ``tie_groups``.

    Raises:
        ValueError: as ``score_rows``.
    """
    rows = score_rows(per_image)
    return rows[rows["defined"] & ~rows["attack"].isin(CONTROLS)].reset_index(drop=True)


def headline_rows(attacked_rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one localizer, as ``ranking_rows`` gives them, that the figure it is ranked by averages."""
    attack = headline_attack(set(attacked_rows["attack"]))
    if attack == ALL:
        return attacked_rows
    return attacked_rows[attacked_rows["attack"] == attack].reset_index(drop=True)


def _worst_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row per attacked forged image: its lowest F1 under any attack, with and without the defence."""
    attacked = rows[rows["forged"] & ~rows["attack"].isin(CONTROLS)]
    lowest = ["f1", "f1_undefended", "f1_original"]
    values = attacked[lowest].where(attacked["defined"])
    groups = pd.concat([attacked[["source", "sample_id", "seen"]], values], axis=1).groupby(
        ["source", "sample_id"], sort=True
    )
    worst = groups[lowest].min().join(groups["seen"].any()).reset_index()
    return worst.assign(config=_WORST, forged=True, defined=worst["f1"].notna())


def _draw(rows: pd.DataFrame, worst: pd.DataFrame, draws: int, seed: int) -> _Bootstrap:
    """Resample the forged images of one localizer once, for all its figures."""
    columns = ["config", "source", "sample_id", "f1", "f1_original", "defined"]
    forged = pd.concat([rows.loc[rows["forged"], columns], worst[columns]], ignore_index=True)
    images = forged[["source", "sample_id"]].drop_duplicates().sort_values(["source", "sample_id"])
    configs = list(dict.fromkeys([*rows["config"], _WORST]))
    defined_rows = forged[forged["defined"]]
    image = pd.MultiIndex.from_frame(images).get_indexer(
        pd.MultiIndex.from_frame(defined_rows[["source", "sample_id"]])
    )
    values = np.zeros((len(images), len(configs), 3))
    values[image, pd.Index(configs).get_indexer(defined_rows["config"])] = np.stack(
        [defined_rows["f1"], defined_rows["f1_original"], np.ones(len(defined_rows))], axis=1
    )
    sums_by_source = resample(
        values.reshape(len(images), 3 * len(configs)), images["source"].tolist(), draws=draws, seed=seed
    )
    by_source = {source: sums.reshape(draws, len(configs), 3) for source, sums in sums_by_source.items()}
    # a source that has only authentic images is not resampled
    nothing = np.zeros((draws, len(configs), 3))
    return _Bootstrap(
        {source: by_source.get(source, nothing) for source in sorted(set(rows["source"]))},
        configs,
        draws,
        seed,
    )


def _config_rows(rows: pd.DataFrame, bootstrap: _Bootstrap) -> list[Figures]:
    table = []
    for (config, source), group in rows.groupby(["config", "source"], sort=False):
        first = group.iloc[0]
        head = {
            "localizer": str(first["localizer"]),
            "source": str(source),
            "config": str(config),
            "attack": str(first["attack"]),
            "phi": _number(float(first["phi"])),
            "steps": int(first["steps"]),
        }
        table.append(head | _micro(group, bootstrap))
    return table


def _aggregate(rows: pd.DataFrame, worst: pd.DataFrame, bootstrap: _Bootstrap) -> dict[str, Any]:
    attacked = rows[~rows["attack"].isin(CONTROLS)]
    sources = {str(name): group for name, group in attacked.groupby("source", sort=True)}
    return {
        "micro": _micro(attacked, bootstrap),
        "macro": _macro(attacked, list(sources.values()), bootstrap),
        "per_attack": {
            str(name): _micro(group, bootstrap) for name, group in rows.groupby("attack", sort=False)
        },
        "per_source": {
            name: _micro(group, bootstrap) | {"worst_case": _micro(worst[worst["source"] == name], bootstrap)}
            for name, group in sources.items()
        },
        "worst_case": _micro(worst, bootstrap),
    }


def _micro(rows: pd.DataFrame, bootstrap: _Bootstrap) -> Figures:
    """Compute the figures of rows that all weigh the same."""
    defined_rows = rows[rows["defined"]]
    f1_ends, rp_ends = _micro_intervals(defined_rows, bootstrap)
    # authentic images have no F1; only their false positive rate is a figure
    means, authentic = _means(defined_rows), rows[~rows["forged"]]
    return {
        **_head(rows, defined_rows),
        **means,
        "f1_ci": _ends(f1_ends),
        "rp_ci": _ends(rp_ends),
        "seen_in_training": bool(rows["seen"].any()),
        **({"n_authentic": len(authentic), "fpr": _mean(authentic["fpr"])} if len(authentic) else {}),
    }


def _micro_intervals(rows: pd.DataFrame, bootstrap: _Bootstrap) -> tuple[Interval | None, Interval | None]:
    """Return the intervals of F1 and RP over rows that are all defined."""
    if _few_images(rows):
        images = rows["source"].tolist(), rows["sample_id"].tolist()
        draws, seed = bootstrap.draws, bootstrap.seed
        return (
            mean_interval(rows["f1"], *images, draws=draws, seed=seed),
            rp_interval(rows["f1"], rows["f1_original"], *images, draws=draws, seed=seed),
        )
    sums = np.zeros((bootstrap.draws, 3))
    for source, group in rows.groupby("source", sort=True):
        sums = sums + bootstrap.sums(str(source), group["config"].unique())
    return interval(ratio(sums[:, 0], sums[:, 2])), interval(100.0 * ratio(sums[:, 0], sums[:, 1]))


def _macro(rows: pd.DataFrame, sources: Sequence[pd.DataFrame], bootstrap: _Bootstrap) -> Figures:
    """Average the figures of sources; those without a defined image are left out."""
    defined_groups = [group[group["defined"]] for group in sources if group["defined"].any()]
    means = [_means(group) for group in defined_groups]
    names = list(dict.fromkeys(name for source_means in means for name in source_means)) or list(
        _means(rows[:0])
    )
    f1_ends, rp_ends = _macro_intervals(defined_groups, bootstrap)
    return {
        **_head(rows, rows[rows["defined"]]),
        "n_sources": len(defined_groups),
        **{name: _mean_of([source_means.get(name) for source_means in means]) for name in names},
        "f1_ci": _ends(f1_ends),
        "rp_ci": _ends(rp_ends),
        "seen_in_training": bool(rows["seen"].any()),
    }


def _macro_intervals(
    groups: Sequence[pd.DataFrame], bootstrap: _Bootstrap
) -> tuple[Interval | None, Interval | None]:
    """Return the intervals of the sources' mean F1 and mean RP; each group holds the defined rows of one source."""
    if not groups or not _several_images(pd.concat(groups)):
        return None, None
    # the smallest source weighs as much as the largest
    if any(_few_images(group) for group in groups):
        rows = pd.concat(groups)
        images = images_of_rows(
            [rows["f1"], rows["f1_original"]], rows["source"].tolist(), rows["sample_id"].tolist()
        )
        f1_sums, original_sums, counts = images.columns.T
        f1_ends, rp_ends = (
            bootstrap_t(
                f1_sums,
                denominator,
                counts,
                images.sources,
                by_source=True,
                draws=bootstrap.draws,
                seed=bootstrap.seed,
            )
            for denominator in (counts, original_sums)
        )
        return f1_ends, None if rp_ends is None else Interval(100.0 * rp_ends.low, 100.0 * rp_ends.high)
    sums = [bootstrap.sums(str(group["source"].iloc[0]), group["config"].unique()) for group in groups]
    f1_drawn = [ratio(part[:, 0], part[:, 2]) for part in sums]
    rp_drawn = [100.0 * ratio(part[:, 0], part[:, 1]) for part in sums]
    return interval(np.mean(f1_drawn, axis=0)), interval(np.mean(rp_drawn, axis=0))


def _several_images(rows: pd.DataFrame) -> bool:
    return any(len(rows) and (rows[name] != rows[name].iloc[0]).any() for name in ("source", "sample_id"))


def _few_images(rows: pd.DataFrame) -> bool:
    return len(rows[["source", "sample_id"]].drop_duplicates()) < SMALL


def _head(rows: pd.DataFrame, defined_rows: pd.DataFrame) -> Figures:
    forged = int(rows["forged"].sum())
    return {"n": forged, "n_undefined": forged - len(defined_rows)}


def _means(rows: pd.DataFrame) -> Figures:
    """Average rows that are all defined; scores of maps only where maps were submitted."""
    defended, undefended = _mean(rows["f1"]), _mean(rows["f1_undefended"])
    figures: Figures = {
        "f1": defended,
        "rp": _number(rp(rows["f1"].to_numpy(np.float64), rows["f1_original"].to_numpy(np.float64))),
        "delta_f1": None if defended is None or undefended is None else defended - undefended,
    }
    figures |= {name: _mean(rows[name]) for name in _OF_MASKS if name in rows}
    return figures | {
        name: _mean(rows[name]) for name in _OF_MAPS if name in rows and rows[name].notna().any()
    }


def _mean(values: pd.Series) -> float | None:
    """Average the defined values, with one result for any order."""
    defined = values.to_numpy(np.float64)
    return _mean_of(defined[~np.isnan(defined)].tolist())


def _mean_of(values: Sequence[float | None]) -> float | None:
    """Average numbers; None if there are none, or one is None."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined and len(defined) == len(values) else None


def _ends(ends: Interval | None) -> list[float] | None:
    return None if ends is None else [ends.low, ends.high]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
