"""The layout of each release: turns file names into entries, without opening a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, cast

from afbench.core import UsageError
from afbench.sources.source_entry import SourceEntry

LAYOUTS: dict[str, str] = {
    name: f"{__name__}.{'lists' if name == 'list' else name}"
    for name in (
        "columbia",
        "casia_v1",
        "casia_v1plus",
        "casia_v2",
        "imd20",
        "misd",
        "coverage",
        "nist16",
        "dso1",
        "korus",
        "cocoglide",
        "autosplice",
        "folder",
        "list",
        "hf",
    )
}
"""The layout module of each source that is read from a root."""


class LayoutModule(Protocol):
    """The names that every layout module defines.

    ``EXPECTS`` says in one line what a root must hold. ``entries`` turns all files below a root (sorted relative paths
    with forward slashes) into entries in the order of their ids, [] if the root holds another release; ``read_text``
    reads a small text file below the root.
    """

    EXPECTS: str

    def entries(self, paths: Sequence[str], read_text: Callable[[str], str], /) -> list[SourceEntry]: ...


def load_layout(name: str) -> LayoutModule:
    """Return the layout module of a source.

    Raises:
        UsageError: if no such source is read from a root.
    """
    if name not in LAYOUTS:
        raise UsageError(f"source '{name}' has no layout; known layouts: {', '.join(LAYOUTS)}")
    return cast(LayoutModule, import_module(LAYOUTS[name]))
