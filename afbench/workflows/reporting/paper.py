"""Measured figures, from benchmarks and scores, beside the ANSM paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, UsageError
from afbench.report.measured import DefendedScore, defended_figures, undefended_figures
from afbench.report.paper import ansm_variants, compare_with_paper
from afbench.scoring.stored_scores import SCORE, read_score
from afbench.storage.manifests import TOP, open_benchmark


class BesidePaper(NamedTuple):
    """A record per printed pair and measurement, and lines on which networks these are and what was left out."""

    records: list[dict[str, Any]]
    notes: list[str]


def beside_the_paper(folders: Sequence[Path]) -> BesidePaper:
    """Fill the undefended figures from benchmarks and the defended ones from scores.

    Raises:
        UsageError: if a folder is neither.
        AfbenchError: if one is damaged.
    """
    undefended, defended, notes = [], [], []
    for folder in folders:
        if (folder / TOP).is_file():
            try:
                comparable = undefended_figures(folder.resolve().name, open_benchmark(folder).configs)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise AfbenchError(
                    f"'{folder}' is damaged ({type(error).__name__}: {error}); see `afbench verify`"
                ) from None
            undefended += comparable.figures
        elif (folder / SCORE).is_file():
            score = read_score(folder)
            about = score.record
            comparable = defended_figures(
                DefendedScore(
                    about["submission_id"],
                    about["defence"],
                    score.per_image,
                    about.get("localizers", {}),
                    about["attack_knowledge"],
                )
            )
            variants = ansm_variants(about["defence"])
            defended += [(figures, variants) for figures in comparable.figures]
        else:
            raise UsageError(f"'{folder}' is neither a benchmark ({TOP}) nor a score ({SCORE})")
        notes += comparable.notes
    return BesidePaper(compare_with_paper(undefended, defended), notes)
