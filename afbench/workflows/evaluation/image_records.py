"""Turn an evaluation's tables into image-level figures: one record per source, score, attack and side, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from afbench.scoring.image_level import image_level
from afbench.storage.manifests import AUTHENTIC

from ..attack_records import OBLIVIOUS, Side
from .evaluate import Evaluation

Record = dict[str, Any]


def image_records(evaluation: Evaluation) -> list[Record]:
    """Tell forged from authentic images, on every side; [] if no source has authentic images.

    A record has the keys of ``scoring.image_level.image_level``, and ``architecture``, ``weights_sha256``, ``defence`` and
    ``knowledge`` as those of ``evaluation_records``. Authentic images are never attacked, so attacks through a defence are
    compared with the same authentic images as the others.
    """
    network = {key: evaluation.network.get(key, "") for key in ("architecture", "weights_sha256")}
    threshold = {evaluation.localizer: evaluation.threshold}
    return [
        {
            "localizer": record["localizer"],
            **network,
            **record,
            "defence": side.defence,
            "knowledge": side.knowledge,
        }
        for side in evaluation.sides
        for record in image_level(
            # one side is one localizer, whatever its configs call it
            _with_authentic(side, evaluation.sides).assign(localizer=evaluation.localizer),
            threshold,
        )
    ]


def _with_authentic(side: Side, sides: Sequence[Side]) -> pd.DataFrame:
    if side.knowledge == OBLIVIOUS:
        return side.per_image
    tables = [
        other.per_image for other in sides if other.defence == side.defence and other.knowledge == OBLIVIOUS
    ]
    authentic = [table[table["config"] == AUTHENTIC] for table in tables]
    return pd.concat([side.per_image, *authentic], ignore_index=True)
