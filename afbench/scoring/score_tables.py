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
from typing import Any

import numpy as np
import pandas as pd

from afbench.metrics import FloatArray, IntArray, ManyCounts, f1, fpr, iou, mcc, rp
from afbench.naming import resolve_name
from afbench.plans import ATTACKS
from afbench.plans.headline import ALL, headline_attack

from .bootstrap_t import bootstrap_t
from .resampling import DRAWS, LEVEL, Interval, interval, ratio
from .row_arrays import Bootstrap, RowArrays, RowNames, as_arrays, draw_images, worst_rows
from .statistics import SMALL, has_few, image_mean_interval, image_rp_interval, sum_by_image

CONTROLS = ("clean", "noise")
"""Values of the attack column that are no attacks."""
KEYS = ["localizer", "config", "source", "sample_id"]
COLUMNS = [
    *["localizer", "source", "config", "attack", "phi", "steps", "sample_id"],
    *["tp", "fp", "fn", "tn", "f1_original", "f1_undefended"],
]
_OF_F1 = ("f1", "f1_original", "f1_undefended")
_OF_MASKS = {"iou": iou, "mcc": mcc}
"""Scores of a mask besides F1, each computed from pixel counts: a new one is a line here."""
_OF_MAPS = ("auc", "f1_best")

Figures = dict[str, Any]


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
        seen_in_training: attacks, ``<localizer>-<attack>`` or configs that a defence was trained on; ``_is_seen`` compares them.
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
    rows["attacked"] = ~rows["attack"].isin(CONTROLS)
    rows["in_training"] = _is_seen(rows, list(seen_in_training))
    scores = [name for name in (*_OF_F1, *_OF_MASKS, "fpr", *_OF_MAPS) if name in rows]
    configs: list[Figures] = []
    aggregates: dict[str, Any] = {}
    for localizer, localizer_rows in rows.groupby("localizer", sort=True):
        arrays, names = as_arrays(localizer_rows, scores)
        worst = worst_rows(arrays)
        bootstrap = draw_images(arrays, worst, names, draws, seed)
        configs += _config_rows(localizer_rows, arrays, bootstrap)
        aggregates[str(localizer)] = _aggregate(arrays, worst, names, bootstrap)
    return {
        "configs": configs,
        "aggregates": aggregates,
        "bootstrap": {
            "draws": draws,
            "seed": seed,
            "level": LEVEL,
            "interval": "percentile",
            f"interval_below_{SMALL}_nonzero_images": "bootstrap-t",
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
    # categories would sort in their own order, and missing combinations would appear in groups
    texts = {name: per_image[name].astype(str) for name in (*KEYS, "attack")}
    order, first_twice = _order(per_image, texts)
    columns = {name: texts.get(name, per_image[name]).array.take(order) for name in per_image.columns}
    if first_twice is not None:
        raise ValueError(f"rows are there twice, first {[columns[name][first_twice] for name in KEYS]}")
    columns |= {name: np.full(len(order), math.nan) for name in _OF_MAPS if name not in columns}
    counts = ManyCounts(*(np.asarray(columns[name], np.int64) for name in ManyCounts._fields))
    columns |= {name: score(counts) for name, score in {"f1": f1, **_OF_MASKS, "fpr": fpr}.items()}
    columns["forged"] = counts.tp + counts.fn > 0
    is_known = [~np.isnan(np.asarray(columns[name], np.float64)) for name in _OF_F1]
    columns["defined"] = np.logical_and.reduce([columns["forged"], *is_known])
    return pd.DataFrame(columns)


def _order(per_image: pd.DataFrame, texts: Mapping[str, pd.Series]) -> tuple[IntArray, int | None]:
    """Return the order of rows, by localizer, attack, setting, config, source and sample, and the place of the first double."""
    # strings are compared once a name, not once a row
    numbered = {name: pd.factorize(text.to_numpy(object), sort=True) for name, text in texts.items()}
    codes = {name: code for name, (code, _) in numbered.items()}
    ranks = {name: rank for rank, name in enumerate(["clean", *ATTACKS])}
    attack_ranks = np.array([ranks.get(name, len(ranks)) for name in numbered["attack"][1]], dtype=np.int64)
    attack = attack_ranks[codes["attack"]] if len(attack_ranks) else codes["attack"]
    phi, steps = per_image["phi"].fillna(0.0).to_numpy(np.float64), per_image["steps"].to_numpy()
    sort_keys = [codes["localizer"], attack, codes["attack"], phi, steps]
    sort_keys += [codes[name] for name in ("config", "source", "sample_id")]
    order = np.lexsort(sort_keys[::-1])
    is_double = pd.DataFrame({name: codes[name][order] for name in KEYS}).duplicated().to_numpy()
    return order, int(is_double.argmax()) if is_double.any() else None


def _is_seen(rows: pd.DataFrame, trained_on: Sequence[str]) -> Any:
    """Say of each row whether a training saw its attack, at any phi, steps and other parameters.

    A config or ``<localizer>-<attack>`` in ``trained_on`` stands for that attack on that localizer, an attack alone for it on any.
    """
    if not trained_on:
        return False
    attacks = rows["attack"].unique().tolist()
    on_any_localizer = {resolve_name("attack", name, attacks) for name in trained_on}
    seen_configs = [
        config
        for config, attack in rows[["config", "attack"]].drop_duplicates().itertuples(index=False)
        if attack in on_any_localizer
        or any(f"{name}-".startswith(f"{config.partition('-')[0]}-{attack}-") for name in trained_on)
    ]
    return rows["config"].isin(seen_configs)


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


def _config_rows(frame: pd.DataFrame, rows: RowArrays, bootstrap: Bootstrap) -> list[Figures]:
    table = []
    cell = rows.config * (rows.source.max(initial=0) + 1) + rows.source
    cells, first_rows = np.unique(cell, return_index=True)
    for position in np.argsort(first_rows):
        head = frame.iloc[int(first_rows[position])]
        table.append(
            {
                "localizer": str(head["localizer"]),
                "source": str(head["source"]),
                "config": str(head["config"]),
                "attack": str(head["attack"]),
                "phi": _number(float(head["phi"])),
                "steps": int(head["steps"]),
                **_micro(rows.where(cell == cells[position]), bootstrap),
            }
        )
    return table


def _aggregate(rows: RowArrays, worst: RowArrays, names: RowNames, bootstrap: Bootstrap) -> dict[str, Any]:
    attacked = rows.where(rows.attacked)
    groups = {
        names.sources[source]: attacked.where(attacked.source == source)
        for source in np.unique(attacked.source)
    }
    worst_groups = {name: worst.where(worst.source == group.source[0]) for name, group in groups.items()}
    return {
        "micro": _micro(attacked, bootstrap),
        "macro": _macro(attacked, list(groups.values()), bootstrap),
        "per_attack": {
            name: _micro(rows.where(rows.attack == number), bootstrap)
            for number, name in enumerate(names.attacks)
        },
        "per_source": {
            name: _micro(group, bootstrap) | {"worst_case": _micro(worst_groups[name], bootstrap)}
            for name, group in groups.items()
        },
        "worst_case": _micro(worst, bootstrap),
    }


def _micro(rows: RowArrays, bootstrap: Bootstrap) -> Figures:
    """Compute the figures of rows that all weigh the same."""
    defined_rows = rows.where(rows.defined)
    f1_ends, rp_ends = _micro_intervals(defined_rows, bootstrap)
    # authentic images have no F1; only their false positive rate is a figure
    means, is_authentic = _means(defined_rows), ~rows.forged
    authentic = (
        {"n_authentic": int(is_authentic.sum()), "fpr": _mean(rows.scores["fpr"][is_authentic])}
        if is_authentic.any()
        else {}
    )
    return {
        **_head(rows),
        **means,
        "f1_ci": _ends(f1_ends),
        "rp_ci": _ends(rp_ends),
        "seen_in_training": bool(rows.in_training.any()),
        **authentic,
    }


def _micro_intervals(rows: RowArrays, bootstrap: Bootstrap) -> tuple[Interval | None, Interval | None]:
    """Return the intervals of F1 and RP over rows that are all defined."""
    draws, seed = bootstrap.draws, bootstrap.seed
    f1, f1_original = rows.scores["f1"], rows.scores["f1_original"]
    images = sum_by_image([f1, f1_original], rows.image, bootstrap.image_sources)
    if has_few(images.columns[:, 0]):
        return (
            image_mean_interval(images, draws=draws, seed=seed),
            image_rp_interval(images, draws=draws, seed=seed),
        )
    sums = np.sum(list(bootstrap.sums(rows)), axis=0)
    return interval(ratio(sums[:, 0], sums[:, 2])), interval(100.0 * ratio(sums[:, 0], sums[:, 1]))


def _macro(rows: RowArrays, groups: Sequence[RowArrays], bootstrap: Bootstrap) -> Figures:
    """Average the figures of sources; those without a defined image are left out."""
    defined_groups = [group.where(group.defined) for group in groups if group.defined.any()]
    means = [_means(group) for group in defined_groups]
    names = list(dict.fromkeys(name for source_means in means for name in source_means)) or list(
        _means(rows.where(np.zeros(len(rows), dtype=bool)))
    )
    f1_ends, rp_ends = _macro_intervals(rows.where(rows.defined), bootstrap)
    return {
        **_head(rows),
        "n_sources": len(defined_groups),
        **{name: _mean_of([source_means.get(name) for source_means in means]) for name in names},
        "f1_ci": _ends(f1_ends),
        "rp_ci": _ends(rp_ends),
        "seen_in_training": bool(rows.in_training.any()),
    }


def _macro_intervals(rows: RowArrays, bootstrap: Bootstrap) -> tuple[Interval | None, Interval | None]:
    """Return the intervals of the sources' mean F1 and mean RP over rows that are all defined."""
    if rows.image_count() < 2:
        return None, None
    images = sum_by_image(
        [rows.scores["f1"], rows.scores["f1_original"]], rows.image, bootstrap.image_sources
    )
    f1_sums, original_sums, counts = images.columns.T
    image_sources = np.asarray(images.sources, dtype=object)
    # the smallest source weighs as much as the largest
    if any(has_few(f1_sums[image_sources == source]) for source in set(images.sources)):
        f1_ends, rp_ends = (
            bootstrap_t(
                f1_sums,
                denominator,
                counts,
                images.sources,
                is_rp=is_rp,
                by_source=True,
                draws=bootstrap.draws,
                seed=bootstrap.seed,
            )
            for denominator, is_rp in ((counts, False), (original_sums, True))
        )
        return f1_ends, None if rp_ends is None else Interval(100.0 * rp_ends.low, 100.0 * rp_ends.high)
    sums = list(bootstrap.sums(rows))
    f1_drawn = [ratio(part[:, 0], part[:, 2]) for part in sums]
    rp_drawn = [100.0 * ratio(part[:, 0], part[:, 1]) for part in sums]
    return interval(np.mean(f1_drawn, axis=0)), interval(np.mean(rp_drawn, axis=0))


def _head(rows: RowArrays) -> Figures:
    forged = int(rows.forged.sum())
    return {"n": forged, "n_undefined": forged - int(rows.defined.sum())}


def _means(rows: RowArrays) -> Figures:
    """Average rows that are all defined; scores of maps only where maps were submitted."""
    scores = rows.scores
    defended, undefended = _mean(scores["f1"]), _mean(scores["f1_undefended"])
    figures: Figures = {
        "f1": defended,
        "rp": _number(rp(scores["f1"], scores["f1_original"])),
        "delta_f1": None if defended is None or undefended is None else defended - undefended,
    }
    figures |= {name: _mean(scores[name]) for name in _OF_MASKS if name in scores}
    return figures | {
        name: _mean(scores[name]) for name in _OF_MAPS if name in scores and not np.isnan(scores[name]).all()
    }


def _mean(values: FloatArray) -> float | None:
    """Average the defined values, with one result for any order."""
    return _mean_of(values[~np.isnan(values)].tolist())


def _mean_of(values: Sequence[float | None]) -> float | None:
    """Average numbers; None if there are none, or one is None."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined and len(defined) == len(values) else None


def _ends(ends: Interval | None) -> list[float] | None:
    return None if ends is None else [ends.low, ends.high]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
