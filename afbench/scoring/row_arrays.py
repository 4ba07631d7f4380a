"""Hold the scored rows of one localizer as NumPy arrays, and draw their images by bootstrap.

A table of figures chooses and groups rows hundreds of times. On a data frame whose names are strings, each time costs milliseconds;
on arrays whose names are numbers, it costs microseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from afbench.metrics import FloatArray, IntArray

from .resampling import resample
from .statistics import number_images

BoolArray = npt.NDArray[np.bool_]
_WORST = -1
"""Stands for a config where the worst case of each image is drawn with the others, in the last column."""


@dataclass(frozen=True)
class RowNames:
    """The names behind the numbers of ``RowArrays``: configs and attacks as the rows list them, sources and images sorted."""

    configs: Sequence[str]
    attacks: Sequence[str]
    sources: Sequence[str]
    image_sources: Sequence[str]


@dataclass(frozen=True)
class RowArrays:
    """Rows of one localizer: a number for each config, attack, source and image, and its flags and scores."""

    config: IntArray
    attack: IntArray
    source: IntArray
    image: IntArray
    forged: BoolArray
    defined: BoolArray
    attacked: BoolArray
    in_training: BoolArray
    scores: Mapping[str, FloatArray]

    def __len__(self) -> int:
        return len(self.image)

    def where(self, is_wanted: BoolArray) -> RowArrays:
        """Return the rows at which ``is_wanted`` holds."""
        return RowArrays(
            self.config[is_wanted],
            self.attack[is_wanted],
            self.source[is_wanted],
            self.image[is_wanted],
            self.forged[is_wanted],
            self.defined[is_wanted],
            self.attacked[is_wanted],
            self.in_training[is_wanted],
            {name: values[is_wanted] for name, values in self.scores.items()},
        )

    def image_count(self) -> int:
        return len(np.unique(self.image))


def as_arrays(rows: pd.DataFrame, scores: Sequence[str]) -> tuple[RowArrays, RowNames]:
    """Turn the rows of one localizer into arrays: their keys, flags, and ``scores``."""
    config, configs = pd.factorize(rows["config"].to_numpy(object))
    attack, attacks = pd.factorize(rows["attack"].to_numpy(object))
    source, sources = pd.factorize(rows["source"].to_numpy(object), sort=True)
    image, image_sources = number_images(rows["source"], rows["sample_id"])
    forged, defined, attacked, in_training = (
        rows[flag].to_numpy(bool) for flag in ("forged", "defined", "attacked", "in_training")
    )
    values = {name: rows[name].to_numpy(np.float64) for name in scores}
    arrays = RowArrays(config, attack, source, image, forged, defined, attacked, in_training, values)
    return arrays, RowNames(configs.tolist(), attacks.tolist(), sources.tolist(), image_sources)


def worst_rows(rows: RowArrays) -> RowArrays:
    """Return one row per attacked forged image: its lowest F1 under any attack, with and without the defence."""
    rows = rows.where(rows.forged & rows.attacked)
    image, first, position = np.unique(rows.image, return_index=True, return_inverse=True)
    scores = {}
    for name in ("f1", "f1_undefended", "f1_original"):
        scores[name] = np.full(len(image), np.nan)
        # fmin takes the number where the other is NaN
        np.fmin.at(scores[name], position[rows.defined], rows.scores[name][rows.defined])
    config = np.full(len(image), _WORST)
    is_any = np.ones(len(image), dtype=bool)
    is_seen = np.bincount(position, rows.in_training, minlength=len(image)) > 0
    is_defined = ~np.isnan(scores["f1"])
    return RowArrays(config, config, rows.source[first], image, is_any, is_defined, is_any, is_seen, scores)


@dataclass(frozen=True)
class Bootstrap:
    """Bootstrap sums by source, ``(draws, configs, 3)``: of F1, of the originals' F1, of rows; all over the same images."""

    by_source: Sequence[FloatArray]
    image_sources: Sequence[str]
    draws: int
    seed: int

    def sums(self, rows: RowArrays) -> Iterator[FloatArray]:
        """Yield ``(draws, 3)`` of each source of these rows, which are all rows of their configs there."""
        for source in np.unique(rows.source):
            configs = np.unique(rows.config[rows.source == source])
            yield np.asarray(self.by_source[source][:, configs].sum(axis=1))


def draw_images(rows: RowArrays, worst: RowArrays, names: RowNames, draws: int, seed: int) -> Bootstrap:
    """Resample the forged images of one localizer once, for all its figures."""
    images = np.unique(rows.image[rows.forged])
    width = len(names.configs) + 1
    values = np.zeros((len(images), width, 3))
    for part in (rows, worst):
        defined_rows = part.where(part.defined)
        values[np.searchsorted(images, defined_rows.image), defined_rows.config] = np.stack(
            [defined_rows.scores["f1"], defined_rows.scores["f1_original"], np.ones(len(defined_rows))],
            axis=1,
        )
    sums_by_source = resample(
        values.reshape(len(images), 3 * width),
        [names.image_sources[image] for image in images.tolist()],
        draws=draws,
        seed=seed,
    )
    # a source that has only authentic images is not resampled
    nothing = np.zeros((draws, width, 3))
    by_source = [
        sums_by_source[source].reshape(draws, width, 3) if source in sums_by_source else nothing
        for source in names.sources
    ]
    return Bootstrap(by_source, names.image_sources, draws, seed)
