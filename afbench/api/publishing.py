"""``afbench.push``: publish a benchmark on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments

from .bars import deferred_bar

if TYPE_CHECKING:
    import pandas as pd

    from afbench.workflows.publishing.push import Upload


@dataclass(frozen=True)
class Pushed:
    """What was checked: ``upload`` with ``folder``, ``repo``, ``private``, ``gated``, ``files`` and ``bytes``. ``url`` is None if nothing was sent."""

    upload: Upload
    url: str | None

    def as_json(self) -> dict[str, Any]:
        """Return what ``afbench push --json`` prints."""
        return {
            "folder": str(self.upload.folder),
            "to": self.upload.repo,
            "private": self.upload.private,
            "gated": self.upload.gated,
            "bytes": self.upload.bytes,
            "files": dict(self.upload.files),
            "url": self.url,
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per file: ``path``, ``bytes``."""
        import pandas as pd

        return pd.DataFrame(self.upload.files.items(), columns=["path", "bytes"])


@checks_arguments
def push(
    folder: str | Path,
    *,
    to: str,
    yes: bool = False,
    private: bool = False,
    residuals: bool = False,
    i_may_share: bool = False,
    quiet: bool = False,
) -> Pushed:
    """Check a finished benchmark, or an archive of one, and publish it on the Hugging Face Hub if ``yes``; else nothing is sent.

    The token is the one that ``hf auth login`` keeps.

    Args:
        folder: the benchmark or archive.
        to: the dataset on the Hub, ``user/name``.
        yes: upload.
        private: only you, or your organisation, may see it.
        residuals: publish what was changed, as an HDF5 archive: without originals, where a source does not plainly allow sharing.
        i_may_share: you know that you may share pixels of sources whose terms do not say so; readers must then ask for access.
        quiet: show no progress bar.
    Returns:
        A ``Pushed``: ``upload``, and ``url``, None without ``yes``; ``to_pandas()`` has one row per file.
    Raises:
        UsageError: if the folder is no benchmark, ``to`` cannot be, the pixels may not be shared, or there is no token.
        AfbenchError: if the folder is damaged, or the Hub cannot be used; call it again to go on.
    """
    from afbench.workflows.publishing.push import prepare, send

    with ExitStack() as stack:
        if quiet:
            stack.enter_context(_hub_without_bars())
        stage = partial(deferred_bar, stack, quiet=quiet)
        upload = prepare(
            Path(folder), to, private=private, residuals=residuals, may_share=i_may_share, stage=stage
        )
        return Pushed(upload, send(upload, stage=stage) if yes else None)


@contextmanager
def _hub_without_bars() -> Iterator[None]:
    """Keep the Hub's library from drawing bars of its own."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
