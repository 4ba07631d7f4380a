"""Compare measured figures, from benchmarks and scores, with those of the ANSM paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from afbench.core import AfbenchError, UsageError
from afbench.reports.measured import DefendedScore, defended_figures, undefended_figures
from afbench.reports.paper import ansm_variants, compare_with_paper
from afbench.reports.paper_table import measured_records, paper_latex
from afbench.scoring.stored_scores import SCORE, read_score
from afbench.storage.manifests import TOP, open_benchmark

if TYPE_CHECKING:
    import pandas as pd


class PaperComparison(NamedTuple):
    """A record for each printed figure and measurement; and notes on the networks measured and on what was left out."""

    records: list[dict[str, Any]]
    notes: list[str]

    @property
    def measured(self) -> list[Mapping[str, Any]]:
        """Return the records that hold a measurement."""
        return measured_records(self.records)

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per measurement beside what the paper prints: ``table``, ``localizer``, ``source``, ``defence``, ``attack``, ..."""
        import pandas as pd

        return pd.json_normalize([dict(record) for record in self.measured], sep="_")

    def to_latex(self) -> str:
        """Return the measurements beside what the paper prints as one booktabs table."""
        return paper_latex(self.records, self.notes)


def compare_folders_with_paper(folders: Sequence[Path]) -> PaperComparison:
    """Take undefended figures from benchmarks and defended ones from scores, and compare them with the paper's.

    Raises:
        UsageError: if a folder is neither a benchmark nor a score.
        AfbenchError: if a folder is damaged.
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
            record = score.record
            comparable = defended_figures(
                DefendedScore(
                    record["submission_id"],
                    record["defence"],
                    score.per_image,
                    record.get("localizers", {}),
                    record["attack_knowledge"],
                )
            )
            variants = ansm_variants(record["defence"])
            defended += [(figures, variants) for figures in comparable.figures]
        else:
            raise UsageError(f"'{folder}' is neither a benchmark ({TOP}) nor a score ({SCORE})")
        notes += comparable.notes
    return PaperComparison(compare_with_paper(undefended, defended), notes)
