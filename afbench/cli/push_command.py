"""``afbench push``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from afbench.api.publishing import push

from .echo import echo
from .function_keywords import function_keywords
from .progress import quiet_option


@click.command("push", epilog="Example: afbench push afbench-out/demo --to user/demo --private")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", required=True, metavar="USER/NAME", help="The dataset on the Hugging Face Hub.")
@click.option("--yes", is_flag=True, help="Upload. Without it, only what would be uploaded is printed.")
@click.option("--dry-run", is_flag=True, help="Print what would be uploaded and stop: the default.")
@click.option("--private", is_flag=True, help="Only you, or your organisation, may see it.")
@click.option(
    "--residuals",
    is_flag=True,
    help="Publish what was changed, as an HDF5 archive: without originals, where a source does not plainly allow sharing.",
)
@click.option(
    "--i-may-share",
    "may_share",
    is_flag=True,
    help="You know that you may share pixels of sources whose terms do not say so; readers must then ask for access.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what is or would be uploaded as JSON.")
@quiet_option
def command(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Publish a finished benchmark, or an archive of one, on the Hugging Face Hub; prints what it would do, unless --yes.

    Checks every file first, and refuses pixels that may not be shared. The token is the one that `hf auth login` keeps.
    """
    if options["yes"] and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    pushed = push(**function_keywords())
    if as_json:
        echo(json.dumps(pushed.as_json(), indent=2))
        return
    upload = pushed.upload
    for path, size in upload.files.items():
        echo(f"{size:>14} {path}")
    echo(
        f"{upload.folder}: {len(upload.files)} files, {upload.bytes} bytes, {'private' if upload.private else 'public'}, "
        f"{'gated: readers must ask for access' if upload.gated else 'not gated'}"
    )
    echo(
        f"uploaded to {pushed.url}"
        if pushed.url
        else f"nothing was uploaded; --yes uploads it to {upload.repo}"
    )
