"""Datasets of forged images with masks: two come with afbench, the others are read from the user's own copies."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from afbench.core import Source, UsageError
from afbench.naming import resolve_name

from .source_entry import SourceOptions

__all__ = ["DATA_VARIABLE", "SourceOptions", "find_sources", "open_source"]

DATA_VARIABLE = "AFBENCH_DATA"
"""Environment variable: a folder whose subfolders are named after the sources and hold their releases."""


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
    keep_pixels: bool = False,
) -> Source:
    """Open a source by name; each sample is read only when it is asked for.

    Args:
        name: ``demo``, ``synthetic``, a published dataset, ``folder`` or ``list``; or the user's own, with a ``layout``.
        root: the folder of the user's own copy, or an index file made of it; for a published dataset its folder in
            ``AFBENCH_DATA`` if None.
        seed: seed of the synthetic forgeries.
        limit: take only the first samples; of a root, the first that can be used.
        options: how to read a root.
        pin: the sha256 the index must have.
        on_progress: called with the number of files read so far and the number to read, while a root is read for the
            first time.
        layout: the source whose layout the root has, where ``name`` is the user's own name for it.
        terms: terms of use of a user's own images.
        keep_pixels: keep the pixels that are decoded to check a root, as far as little memory goes, until their sample is
            read; for a process that reads the samples next.
    Raises:
        UsageError: if the source is unknown, its root does not hold what it should, or it is not the one pinned.
    """
    # a pin that is compared with nothing would promise what it does not keep
    if name in ("demo", "synthetic") and pin:
        raise UsageError(f"source '{name}' comes with afbench and has no index to pin")
    if name == "demo":
        from .demo import open_demo

        return open_demo(limit, authentic=options.authentic)
    if name == "synthetic":
        from .synthetic import open_synthetic

        return open_synthetic(seed, limit, authentic=options.authentic)
    from .index import open_indexed

    read_as = layout or name
    source = open_indexed(
        read_as,
        root or default_root(read_as),
        options,
        limit,
        pin=pin,
        on_progress=on_progress,
        keep_pixels=keep_pixels,
    )
    if read_as != name:
        source = replace(source, name=name, layout=read_as)
    return replace(source, terms=terms) if terms else source


def default_root(name: str, option: str = "--source {name}:{root}") -> Path:
    """Return the folder of a source in ``AFBENCH_DATA``.

    Args:
        name: the source.
        option: how the user gives another root; shown in the error.

    Raises:
        UsageError: if the source is unknown, or ``AFBENCH_DATA`` does not hold it.
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
    """List the published sources in ``AFBENCH_DATA`` with their folders, whose names may be any alias of a source."""
    from .layouts import LAYOUTS

    data_folder = os.environ.get(DATA_VARIABLE)
    if not data_folder:
        return {}
    try:
        folders = sorted(path for path in Path(data_folder).expanduser().iterdir() if path.is_dir())
    except (OSError, RuntimeError):
        # a folder that cannot be listed holds no source; `default_root` then says what is missing
        return {}
    names = [name for name in LAYOUTS if name not in _OWN_SOURCES]
    roots: dict[str, Path] = {}
    # a folder of the very name goes before one of an alias
    for folder in sorted(folders, key=lambda path: path.name.lower().replace("-", "_") not in names):
        if name := resolve_name("source", folder.name, names):
            roots.setdefault(name, folder)
    return {name: roots[name] for name in names if name in roots}


_OWN_SOURCES = ("folder", "list", "hf")
