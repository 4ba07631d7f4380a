"""``afbench export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.submitting import export
from afbench.storage.shard_format import WITHOUT_PICTURES

from .echo import echo
from .function_keywords import function_keywords
from .name_types import CONFIG
from .progress import quiet_option


@click.command(
    "export",
    epilog="Example: afbench export afbench-out/demo --to hdf5 --residuals-only --out afbench-out/demo-archive",
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    type=click.Choice(["hdf5", "hdf5-benchmark", "parquet", "imagefolder", "webdataset"]),
    help="hdf5: an archive of what was changed, several times smaller; parquet, hdf5-benchmark: a benchmark with such shards; imagefolder: PNG files; webdataset: tars.",
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
def command(out: Path, as_json: bool, **options: Any) -> None:
    """Write a benchmark in another form, with BagIt and Croissant files. Run it again to go on after an interruption."""
    exported = export(**function_keywords())
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
    if options["to"] == "hdf5-benchmark":
        echo(WITHOUT_PICTURES)
    echo(
        f"{exported.images} images of {len(exported.configs)} configs in {out}: {exported.files} files, {exported.bytes} bytes"
    )
