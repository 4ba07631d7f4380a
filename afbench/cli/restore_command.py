"""``afbench restore``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.restoring import restore

from .echo import echo
from .function_keywords import function_keywords
from .name_types import SOURCE
from .progress import quiet_option


@click.command(
    "restore",
    epilog="Example: afbench restore afbench-out/demo-archive --source demo --out afbench-out/demo-restored",
)
@click.argument("archive", type=click.Path(path_type=Path))
@click.option(
    "--source",
    "sources",
    type=SOURCE,
    multiple=True,
    metavar="NAME[:ROOT]",
    help="Your own copy of a source that the archive has no originals of; repeat. Default: what AFBENCH_DATA holds.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="NAME",
    help="Restore only this source; repeat. Default: all.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done and what is missing as JSON.")
@quiet_option
def command(out: Path, as_json: bool, **options: Any) -> int:
    """Put the images of an HDF5 archive together again, each checked by the hash of its pixels.

    Exit code 3 if originals are missing or others than those that were attacked; run it again once you have them.
    """
    restored = restore(**function_keywords())
    if as_json:
        summary = {
            "folder": str(restored.folder),
            "images": restored.images,
            "shards": restored.shards,
            "identical": restored.identical,
            "missing": [image._asdict() for image in restored.missing],
        }
        echo(json.dumps(summary, indent=2))
    else:
        for image in restored.missing[:50]:
            echo(f"{image.source} {image.sample_id}: {image.reason} ({image.detail})")
        if len(restored.missing) > 50:
            echo(f"... and {len(restored.missing) - 50} more")
        for reason, count in restored.reasons.items():
            echo(f"missing: {count} {reason}")
        echo(
            f"{restored.images} images in {out}; {restored.identical} of {restored.shards} shards are byte for byte the original's"
        )
    # partial, like a run that was stopped: the same command goes on
    return 3 if restored.missing else 0
