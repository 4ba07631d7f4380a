"""``afbench.index``: check a source file by file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afbench.argument_types import checks_arguments
from afbench.core import AfbenchError, PartialError, ReadOptions, UsageError
from afbench.naming import resolve_name, unknown_name
from afbench.resources import resource_json
from afbench.storage.manifests import refuse_inside_benchmark

from .bars import counted_bar
from .keywords import require_choice, require_count

if TYPE_CHECKING:
    import pandas as pd

    from afbench.sources.index_records import Index

_FIRST_REASONS = 3
_MISMATCHES: Sequence[Literal["exclude", "resize-nearest"]] = ("exclude", "resize-nearest")


@dataclass(frozen=True)
class IndexedSource:
    """What a source holds: ``index`` with ``samples``, ``summary`` and ``sha256``, and ``warnings`` of what looks wrong."""

    index: Index
    warnings: Sequence[str]

    def as_json(self) -> dict[str, Any]:
        """Return the index as its file holds it."""
        return self.index.to_json()

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per sample, included or excluded: ``id``, ``image``, ``mask``, ``status``, ``reason``, ``detail``, ``label``,
        ``width``, ``height``, ``mask_fraction``, ...
        """
        import pandas as pd

        return pd.DataFrame([vars(sample) for sample in self.index.samples])


class UnusableSource(AfbenchError):
    """A source without a sample that can be used, or with another number of them than expected; ``indexed`` has them all."""

    def __init__(self, message: str, indexed: IndexedSource) -> None:
        super().__init__(message)
        self.indexed = indexed


@checks_arguments
def index(
    source: str,
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
    full: bool = False,
    on_mismatch: str = "exclude",
    invert_masks: bool = False,
    invert_listed: str | Path | None = None,
    mask_threshold: int | None = None,
    mask_nonzero: bool = False,
    ignore_alpha: bool = False,
    max_side: int | None = None,
    authentic: bool = False,
    expect_count: int | None = None,
    workers: int | None = None,
    quiet: bool = False,
) -> IndexedSource:
    """Check a source file by file: what can be used, and what cannot and why.

    Args:
        source: its name, e.g. ``folder`` or ``casia_v1``.
        root: your copy of the source; omitted, its folder in ``AFBENCH_DATA``.
        out: a .json file to write the index to; ``source="NAME:FILE.json"`` then reads exactly what it lists.
        full: read every file, even those unchanged since the last index.
        on_mismatch: what to do with a mask of another size than its image: ``exclude`` or ``resize-nearest``.
        invert_masks: swap forged and authentic in every mask.
        invert_listed: a text with one id a line: swap them in the masks of these samples, as exceptions to the others.
        mask_threshold, mask_nonzero, ignore_alpha, max_side: as for ``afbench.generate``.
        authentic: list authentic images too.
        expect_count: raise unless so many forged samples are included.
        workers: processes that read files; omitted, one per core, at most 8.
        quiet: show no progress bar.
    Returns:
        An ``IndexedSource``: ``index``, ``warnings``; ``to_pandas()`` has one row per sample, an excluded one with its ``reason`` and
        ``detail``.
    Raises:
        UsageError: if the source is unknown or comes with afbench, its root cannot be read, or a value cannot be used.
        UnusableSource: an ``AfbenchError``, if not one sample can be used, or the count is not the expected one; its ``indexed`` is what
            would have been returned, and ``out`` is written all the same.
        PartialError: if it was stopped; what was read is kept, so call it again.
    """
    from afbench.files import commit_bytes
    from afbench.sources import SourceOptions, default_root
    from afbench.sources.index import build_index
    from afbench.sources.index_records import index_text
    from afbench.sources.mask_exceptions import read_exceptions

    mismatch = require_choice("--on-mismatch", on_mismatch, _MISMATCHES)
    name = _indexed_name(source)
    path = None if out is None else Path(out)
    if path is not None and (path.suffix.lower() != ".json" or not path.absolute().parent.is_dir()):
        raise UsageError(f"--out must be a .json file in a folder that exists; found '{path}'")
    if path is not None:
        refuse_inside_benchmark(path)
    require_count("--expect-count", expect_count, least=0)
    require_count("--workers", workers, least=1)
    options = SourceOptions(
        mismatch,
        invert_masks,
        authentic,
        ReadOptions(mask_threshold, mask_nonzero, ignore_alpha, max_side),
    )
    inverted_ids = () if invert_listed is None else read_exceptions(Path(invert_listed))
    try:
        with ExitStack() as stack:
            source_index = build_index(
                name,
                default_root(name, "--root {root}") if root is None else Path(root),
                options,
                workers=workers,
                full=full,
                on_progress=counted_bar(stack, name, "image", quiet=quiet),
                inverted_ids=inverted_ids,
            )
    except KeyboardInterrupt:
        raise PartialError(
            "stopped; nothing was written, but what was read is kept: run the same command again"
        ) from None
    if path is not None:
        commit_bytes(path, index_text(source_index).encode())
    indexed = IndexedSource(source_index, _warnings(source_index))
    if problem := _problem(source_index, expect_count):
        raise UnusableSource(problem, indexed)
    return indexed


def _indexed_name(text: str) -> str:
    """Return the canonical name of a source that is read from a root.

    Raises:
        UsageError: for another one.
    """
    from afbench.sources.layouts import LAYOUTS

    name = resolve_name("source", text, ("demo", "synthetic", *LAYOUTS))
    if name in ("demo", "synthetic"):
        raise UsageError(f"source '{name}' comes with afbench and needs no index")
    if name is None:
        hint = f"; give the root as --root {text.partition(':')[2]}" if ":" in text else ""
        if Path(text).exists():
            layout = "folder" if Path(text).is_dir() else "list"
            hint = f"; for your own images there write: afbench index {layout} --root {text}"
        raise unknown_name("source", text, LAYOUTS, hint)
    return name


def _warnings(source_index: Index) -> list[str]:
    """Say what looks wrong: masks, and counts other than those of the published release."""
    from afbench.sources.notes import index_notes

    summary = source_index.summary
    manifest = resource_json("sources").get(source_index.source, {})
    warnings = index_notes(source_index)
    if summary.expected is not None and summary.paired != summary.expected:
        paper_count = manifest.get("count_in_paper", summary.paired)
        paper = "" if paper_count == summary.paired else f" (the ANSM paper used {paper_count})"
        warnings.append(
            f"{summary.paired} forged images with masks were found, the published release of "
            f"{source_index.source} has {summary.expected}{paper}"
        )
    authentic = sum(sample.label == "authentic" for sample in source_index.samples)
    if source_index.options.authentic and authentic != manifest.get("count_authentic", authentic):
        warnings.append(
            f"{authentic} authentic images were found, the published release of "
            f"{source_index.source} has {manifest['count_authentic']}"
        )
    return warnings


def _problem(source_index: Index, expect_count: int | None) -> str:
    """Say why a source cannot be used; "" if it can."""
    summary = source_index.summary
    if not summary.included and not summary.authentic:
        return f"{source_index.source}: not one sample can be used ({_first_exclusions(source_index)})"
    if expect_count is not None and summary.included != expect_count:
        return (
            f"{source_index.source}: {summary.included} forged samples are included, expected {expect_count} "
            "(--expect-count)"
        )
    return ""


def _first_exclusions(source_index: Index) -> str:
    """Describe the first exclusion of each reason in full, since its detail says what to do."""
    first = {sample.reason: sample for sample in reversed(source_index.samples) if not sample.included}
    return "; ".join(
        f"{sample.id}: {reason}, {sample.detail}" for reason, sample in sorted(first.items())[:_FIRST_REASONS]
    )
