"""Measured figures, from benchmarks and scores, beside the ANSM paper's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from afbench.core import UsageError
from afbench.report.paper import DefendedScore, compare_with_paper, undefended_figures
from afbench.scoring.reading import SCORE, read_score
from afbench.storage.manifests import TOP, open_benchmark


def beside_the_paper(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Fill the undefended figures from benchmarks and the defended ones from scores.

    Raises:
        UsageError: if a folder is neither.
        AfbenchError: if one is damaged.
    """
    benchmarks, scores = [], []
    for folder in folders:
        if (folder / TOP).is_file():
            name = folder.resolve().name
            benchmarks.append(undefended_figures(name, open_benchmark(folder).configs))
        elif (folder / SCORE).is_file():
            score = read_score(folder)
            about = score.about
            scores.append(DefendedScore(about["submission_id"], about["defence"], score.per_image))
        else:
            raise UsageError(f"'{folder}' is neither a benchmark ({TOP}) nor a score ({SCORE})")
    return compare_with_paper(benchmarks, scores)
