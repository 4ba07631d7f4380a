"""Datasets of forged images with masks: two that afbench brings along, and what a user's own copies hold."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from afbench.core import Source, UsageError
from afbench.naming import resolve_name

from .source_entry import SourceOptions

__all__ = ["DATA_VARIABLE", "SourceOptions", "find_sources", "open_source"]

DATA_VARIABLE = "AFBENCH_DATA"
"""Names a folder that holds releases in subfolders called like their sources."""


def open_source(
    name: str,
    root: str | None = None,
    *,
    seed: int = 0,
    limit: int | None = None,
    options: SourceOptions = SourceOptions(),  # noqa: B008 - frozen
    pin: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    layout: str = "",
    terms: str = "",
) -> Source:
    """Open a source by name; its samples are read later, one by one.

    Args:
        name: ``demo``, ``synthetic``, a published dataset, ``folder`` or ``list``; or the user's own, with a ``layout``.
        root: the folder of the user's own copy, or an index file made of it; for a published dataset its folder in
            ``AFBENCH_DATA`` if None.
        seed: of synthetic forgeries.
        limit: take the first samples only; with a root, up to that many that can be used.
        options: how a root is read.
        pin: the sha256 the index must have.
        on_progress: told how many files of a root have been read for the first time, of how many.
        layout: the source that the root is read as, where ``name`` is another.
        terms: of a user's own images.
    Raises:
        UsageError: if the source is unknown, its root does not hold what it should, or it is not the one pinned.
    """
    if name in ("demo", "synthetic") and pin:
        raise UsageError(f"source '{name}' comes with afbench and has no index to pin")
    if name == "demo":
        from .demo import open_demo

        return open_demo(limit)
    if name == "synthetic":
        from .synthetic import open_synthetic

        return open_synthetic(seed, limit)
    from .index import open_indexed

    read_as = layout or name
    source = open_indexed(
        read_as, root or default_root(read_as), options, limit, pin=pin, on_progress=on_progress
    )
    if read_as != name:
        source = replace(source, name=name, layout=read_as)
    return replace(source, terms=terms) if terms else source


def default_root(name: str, option: str = "--source {name}:{root}") -> Path:
    """Where ``AFBENCH_DATA`` holds a source; ``option`` is how a message says to give another root.

    Raises:
        UsageError: if the source is unknown, or is not there.
    """
    from .layouts import load_layout

    layout = load_layout(name)
    roots = find_sources()
    if name in roots:
        return roots[name]
    if name in _OWN_SOURCES:
        raise UsageError(
            f"source '{name}' needs its root: {option.format(name=name, root='PATH')} with {layout.EXPECTS}"
        )
    data_folder = os.environ.get(DATA_VARIABLE)
    looked_in = f", which is '{data_folder}' and has none" if data_folder else ""
    raise UsageError(
        f"source '{name}' is read from your own copy: {option.format(name=name, root='ROOT')}, or a folder '{name}' in "
        f"{DATA_VARIABLE}{looked_in}; expected {layout.EXPECTS}"
    )


def find_sources() -> dict[str, Path]:
    """Published sources that ``AFBENCH_DATA`` holds, and where; their folders may have any name that a source is asked for by."""
    from .layouts import LAYOUTS

    data_folder = os.environ.get(DATA_VARIABLE)
    if not data_folder:
        return {}
    try:
        folders = sorted(path for path in Path(data_folder).expanduser().iterdir() if path.is_dir())
    except (OSError, RuntimeError):
        return {}
    names = [name for name in LAYOUTS if name not in _OWN_SOURCES]
    roots: dict[str, Path] = {}
    # a folder of the very name goes before one of an alias
    for folder in sorted(folders, key=lambda path: path.name.lower().replace("-", "_") not in names):
        if name := resolve_name("source", folder.name, names):
            roots.setdefault(name, folder)
    return {name: roots[name] for name in names if name in roots}


_OWN_SOURCES = ("folder", "list")
