"""``afbench export``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import click

from .echo import echo
from .name_types import CONFIG
from .progress import deferred_bar, quiet_option


@click.command(
    "export",
    epilog="Example: afbench export afbench-out/demo --to hdf5 --residuals-only --out afbench-out/demo-archive",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["hdf5", "parquet", "imagefolder", "webdataset"]),
    help="hdf5: what was changed, several times smaller; parquet: a benchmark again; imagefolder: PNG files; webdataset: tars.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option(
    "--config",
    "configs",
    type=CONFIG,
    multiple=True,
    metavar="NAME",
    help="Take only this config and the originals; repeat. Default: all.",
)
@click.option(
    "--with-originals/--residuals-only",
    "with_originals",
    default=None,
    help="With hdf5: keep the originals, or leave them out. Default: keep them, except those of sources that may not be shared.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@quiet_option
def command(
    folder: Path, to: str, out: Path, configs: tuple[str, ...], with_originals: bool | None, as_json: bool
) -> None:
    """Write a benchmark in another form, with BagIt and Croissant files. Run it again to go on after an interruption."""
    from afbench.workflows.publishing.export import export

    with ExitStack() as stack:
        bar = deferred_bar(stack, "export", "img")
        exported = export(
            folder,
            out,
            to,
            configs=configs,
            with_originals=with_originals,
            start=bar.start,
            advance=bar.advance,
        )
    # on stderr, so that --json stays alone on stdout
    for source, word in exported.restricted.items():
        pixels = "its originals are left out" if source in exported.withheld else f"{out} holds its pixels"
        echo(f"{source}: redistribution is {word}; {pixels}", err=True)
    if as_json:
        summary = {
            "folder": str(exported.folder),
            "configs": list(exported.configs),
            "images": exported.images,
            "files": exported.files,
            "bytes": exported.bytes,
            "written": exported.written_shards,
            "restricted": dict(exported.restricted),
            "withheld": list(exported.withheld),
        }
        echo(json.dumps(summary, indent=2))
        return
    echo(
        f"{exported.images} images of {len(exported.configs)} configs in {out}: {exported.files} files, {exported.bytes} bytes"
    )
