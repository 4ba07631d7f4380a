"""Rank submissions, and let those share a rank that their images cannot tell apart.

All pairs are compared at once: a pair differs if its studentised difference is larger than the 95 % quantile, over the bootstrap
draws, of the largest studentised error of any pair (max-T). One 95 % interval a pair would instead separate equal submissions more
often the more of them a board has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from afbench.metrics import FloatArray

from .resampling import DRAWS, LEVEL, Interval, ratio, resample, too_undefined
from .statistics import images_of_rows

_NO_ERROR = 1e-9
"""Standard deviation of a difference, as a share of the figures' size, that is only rounding."""


class RankedSubmission(NamedTuple):
    """A submission with its rank: submissions of one ``rank`` tie.

    ``behind`` is the interval of its difference to the leader it was compared with: it holds 0 for those who tie, and
    ends below 0 for the first of each next group. The best of all has (0, 0).
    """

    rank: int
    name: str
    value: float
    behind: Interval | None


def tie_groups(
    scores: Mapping[str, npt.ArrayLike],
    sources: Sequence[str],
    samples: Sequence[str],
    *,
    f1_original: npt.ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[RankedSubmission]:
    """Rank submissions by mean F1 or, with ``f1_original``, by RP; those that cannot be told apart share a rank.

    The rule: from the best down, the first leads a group; each next one joins it while the interval of its difference to the
    leader holds 0 or is undefined. The intervals hold all pairs' differences at once with 95 %. The first that falls clear of the
    leader leads the next group, even where a worse but less certain one would still reach the leader. A rank is one more than
    the number of submissions in better groups: 1, 1, 3.

    Args:
        scores: F1 of each submission by name, row by row of the same images.
        sources: of each row.
        samples: of each row; rows of one source and sample are one image.
        f1_original: F1 on the original of each row's sample.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    names = sorted(scores)
    if not names:
        return []
    scale = 1.0 if f1_original is None else 100.0
    columns = [
        np.ones(len(sources)) if f1_original is None else f1_original,
        *(scores[name] for name in names),
    ]
    images = images_of_rows(columns, sources, samples)
    defined_values = np.stack([np.asarray(column, dtype=np.float64) for column in columns])
    defined_values = defined_values[:, np.isfinite(defined_values).all(axis=0)]
    totals = [math.fsum(column) for column in defined_values.tolist()]
    figures = [scale * total / totals[0] if totals[0] else math.nan for total in totals[1:]]
    drawn = None
    if len(images.columns) > 1:
        sums = resample(images.columns, images.sources, draws=draws, seed=seed)
        total = np.stack(list(sums.values())).sum(axis=0)
        drawn = scale * np.stack([ratio(total[:, k], total[:, 0]) for k in range(1, len(names) + 1)], axis=1)
    half_widths = None if drawn is None else _half_widths(np.array(figures), drawn)

    standings: list[RankedSubmission] = []
    leader, rank = 0, 0
    order = sorted(range(len(names)), key=lambda index: (-_least(figures[index]), names[index]))
    for number, index in enumerate(order, 1):
        behind: Interval | None = None
        if not standings:
            behind = Interval(0.0, 0.0)
        elif half_widths is not None:
            gap, half_width = figures[index] - figures[leader], float(half_widths[index, leader])
            behind = Interval(gap - half_width, gap + half_width)
        if not standings or (behind and not behind.holds_zero()):
            leader, rank = index, number
        standings.append(RankedSubmission(rank, names[index], figures[index], behind))
    return standings


def _least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _half_widths(figures: FloatArray, drawn: FloatArray) -> FloatArray | None:
    """Return half the width of the simultaneous interval of every pair's difference ``(S, S)``.

    Args:
        figures: ``(S,)``.
        drawn: the figures of every draw ``(draws, S)``.
    Returns:
        None where too many draws have no figures.
    """
    if too_undefined(drawn[:, 0]):
        return None
    errors = drawn[np.isfinite(drawn).all(axis=1)] - figures
    spreads = np.zeros((len(figures), len(figures)))
    largest = np.zeros(len(errors))
    # a row of pairs at a time: all pairs of 200 submissions in 2000 draws would take 640 MB
    for index in range(len(figures)):
        pairs = errors - errors[:, index : index + 1]
        deviations = pairs.std(axis=0)
        deviations[deviations < _NO_ERROR * max(1.0, float(np.abs(figures).max()))] = 0.0
        spreads[index] = deviations
        is_uncertain = deviations > 0
        if is_uncertain.any():
            studentised = np.abs(pairs[:, is_uncertain]) / deviations[is_uncertain]
            largest = np.maximum(largest, studentised.max(axis=1))
    return np.asarray(spreads * np.quantile(largest, LEVEL))
