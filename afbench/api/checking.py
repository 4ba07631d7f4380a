"""``afbench.verify`` and ``afbench.stats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.plans import parse_source
from afbench.reports.tables import stats_rows
from afbench.reports.weak import weak_configs
from afbench.storage.manifests import Benchmark, holds_rows, open_benchmark
from afbench.storage.problem import Problem
from afbench.storage.worst_case import worst_cases

from .bars import advancing, progress_bar
from .keywords import Texts, texts_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was checked, and what is wrong.

    ``rows`` and ``files`` are counts; ``holds_rows`` is False for an export as plain pictures. ``repaired`` (paths) and
    ``not_repaired`` (reasons by path) are None unless a repair was asked for; ``rescored`` (rows) and ``not_rescored`` (reasons
    by config) are None unless the localizer scored again.
    """

    folder: Path
    rows: int
    files: int
    holds_rows: bool
    problems: Sequence[Problem]
    repaired: Sequence[str] | None = None
    not_repaired: Mapping[str, str] | None = None
    rescored: int | None = None
    not_rescored: Mapping[str, str] | None = None

    @property
    def passed(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per problem: ``path``, ``message``."""
        import pandas as pd

        return pd.DataFrame([asdict(problem) for problem in self.problems], columns=["path", "message"])


@dataclass(frozen=True)
class BenchmarkStats:
    """The figures of a benchmark: ``rows``, one per attacked config and source, and ``warnings``."""

    benchmark: Benchmark = field(repr=False)
    rows: Sequence[dict[str, Any]]
    warnings: Sequence[str]

    def worst(self) -> list[dict[str, Any]]:
        """Average the lowest F1 of each image over all attacked configs, one row per localizer and source; reads the shards.

        Raises:
            AfbenchError: if a shard cannot be read.
        """
        return worst_cases(self.benchmark)

    def to_pandas(self) -> pd.DataFrame:
        """Return ``rows`` as a table: ``config``, ``source``, ``localizer``, ``attack``, ``phi_255``, ``n``, ``f1_clean``, ``f1_adv``, ``rp``, ..."""
        import pandas as pd

        return pd.DataFrame(self.rows)


@checks_arguments
def stats(folder: str | Path) -> BenchmarkStats:
    """Read the figures of a benchmark from its manifests, as ``afbench stats`` prints them.

    Args:
        folder: a finished benchmark or archive.
    Returns:
        A ``BenchmarkStats``; ``to_pandas()`` has mean F1 before (``f1_clean``) and after (``f1_adv``), ``rp`` in percent, ``psnr`` in
        dB, ``ssim``, ``linf`` in levels, for every config and source. For single images see ``afbench.results``.
    Raises:
        UsageError: if the folder is no finished benchmark.
        AfbenchError: if a manifest is damaged.
    """
    benchmark = open_benchmark(Path(folder))
    return BenchmarkStats(benchmark, stats_rows(benchmark.configs), weak_configs(benchmark.configs))


@checks_arguments
def verify(
    folder: str | Path,
    *,
    fast: bool = False,
    deep: bool = False,
    repair: bool = False,
    source: Texts = (),
    localizer: str | None = None,
    checkpoint: str | None = None,
    attack: Texts = (),
    through_defence: str | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> Verified:
    """Check every file's size and hash and every row's count, as ``afbench verify`` does.

    Args:
        folder: a finished benchmark, archive or export.
        fast: sizes, counts and the list of files only; nothing is hashed.
        deep: also decode every image, check its bound and compute its figures again; the localizer scores it again.
        repair: first make damaged or missing files again, byte for byte.
        source: with ``repair`` your copies of sources, ``NAME[:ROOT]``, for damaged originals.
        localizer: the localizer, where it is your own, as ``my_package.my_module:build``.
        checkpoint: weights of the localizer, where they are not registered.
        attack: with ``repair`` attacks of your own that made configs, as ``my_package.my_module:build``.
        through_defence: the defence that attacks went through, where it is your own.
        device: where to compute; omitted, ``cpu``, with ``repair`` the device in the log.
        quiet: show no progress bar.
    Returns:
        A ``Verified``: ``passed``, ``problems``, ``rows``, ``files``, ...; problems are returned, not raised.
    Raises:
        UsageError: if the folder is no benchmark, or what a repair or ``deep`` needs is not at hand.
    """
    if fast and deep:
        raise UsageError("--fast and --deep are two ways to check; give one of them")
    from afbench.storage.verify import check_benchmark, rows_to_check

    folder = Path(folder)
    results: dict[str, Any] = {}
    user_parts = (localizer, checkpoint, device, through_defence, texts_of(attack))
    if repair:
        from afbench.workflows.rerun.recorded_run import LocalizerSource
        from afbench.workflows.rerun.repair import repair as repair_folder

        # repair comes first, so that the check shows what is still wrong
        roots = {spec.name: spec.root for spec in map(parse_source, texts_of(source))}
        with progress_bar("repair", "file", quiet=quiet) as bar:
            repaired = repair_folder(
                folder,
                sources=roots,
                localizer_source=LocalizerSource(*user_parts),
                advance=bar.update,
            )
        results |= {"repaired": list(repaired.repaired), "not_repaired": dict(repaired.not_repaired)}
    has_rows = holds_rows(folder)
    with progress_bar("verify", "row" if has_rows else "file", rows_to_check(folder), quiet=quiet) as bar:
        checked = check_benchmark(
            folder, advancing(bar), level="fast" if fast else "deep" if deep else "default"
        )
    problems = checked.problems
    # a damaged row would fail again, and hide what scoring alone can find
    if deep and not problems:
        from afbench.workflows.rerun.recorded_run import LocalizerSource
        from afbench.workflows.rerun.rescore import rescore

        with progress_bar("score again", "row", quiet=quiet) as bar:
            rescored = rescore(
                folder,
                localizer_source=LocalizerSource(*user_parts),
                advance=bar.update,
            )
        problems = list(rescored.problems)
        results |= {"rescored": rescored.rows, "not_rescored": dict(rescored.left_out)}
    return Verified(
        folder=folder,
        rows=checked.rows,
        files=checked.files,
        holds_rows=has_rows,
        problems=problems,
        **results,
    )
