"""``afbench.restore``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from afbench.argument_types import checks_arguments
from afbench.plans import parse_source

from .bars import deferred_bar
from .keywords import Texts, texts_of

if TYPE_CHECKING:
    from afbench.workflows.publishing.restore import Restored


@checks_arguments
def restore(
    archive: str | Path,
    *,
    source: Texts = (),
    split: Texts = (),
    out: str | Path,
    quiet: bool = False,
) -> Restored:
    """Put the images of an HDF5 archive together again, each checked by the hash of its pixels.

    Args:
        archive: a folder that ``afbench.export(to="hdf5")`` wrote.
        source: your own copies of sources that the archive has no originals of, ``NAME[:ROOT]``; omitted, what ``AFBENCH_DATA`` holds.
        split: restore only these sources; omitted, all.
        out: a new folder, or one of the same restoration, to go on.
        quiet: show no progress bar.
    Returns:
        A ``Restored``: ``images``, ``shards``, ``identical`` (shards that are byte for byte the original's) and ``missing``, which
        ``to_pandas()`` has as one row per sample. Call it again once you have what is missing.
    Raises:
        UsageError: if there is no such archive or source, a copy is needed and not given, or ``out`` holds something else.
        AfbenchError: if the archive is damaged, or not one original could be found.
    """
    roots = {spec.name: spec.root for spec in map(parse_source, texts_of(source))}
    from afbench.workflows.publishing.restore import restore as put_together

    with ExitStack() as stack:
        bar = deferred_bar(stack, "restore", "img", quiet=quiet)
        return put_together(
            Path(archive),
            Path(out),
            roots,
            splits=texts_of(split),
            start=bar.start,
            advance=bar.advance,
        )
