"""Turn an evaluation's tables into figures: one record per source, attack and side, as plain data."""

from __future__ import annotations

from dataclasses import replace

from ..attack_records import Record, side_records
from .evaluate import Evaluation


def evaluation_records(evaluation: Evaluation) -> list[Record]:
    """Return the records of ``side_records`` for the sides of one localizer."""
    return side_records(evaluation.localizer, evaluation.network, evaluation.sides, evaluation.all_ones)


def posted_records(evaluation: Evaluation) -> list[Record]:
    """Return the records of the bare localizer on images as stored and after each step of posting, in ``after``.

    RP is in percent of F1 on the originals as stored. ``knowledge`` is ``adaptive`` for attacks through the very step.
    """
    if not evaluation.posted:
        return []
    records = evaluation_records(
        replace(evaluation, sides=[evaluation.sides[0], *evaluation.posted], posted=())
    )
    bare = evaluation.sides[0]
    own_defence = {"defence": bare.defence, "defence_type": bare.kind, "defence_params": dict(bare.params)}
    return [
        {**record, **own_defence, "after": None if record["defence"] == bare.defence else record["defence"]}
        for record in records
    ]
