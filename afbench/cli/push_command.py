"""``afbench push``."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from .echo import echo
from .progress import deferred_bar, is_quiet, quiet_option


@click.command("push", epilog="Example: afbench push afbench-out/demo --to user/demo --private")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--to", "repo", required=True, metavar="USER/NAME", help="The dataset on the Hugging Face Hub.")
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
def command(
    folder: Path,
    repo: str,
    yes: bool,
    dry_run: bool,
    private: bool,
    residuals: bool,
    may_share: bool,
    as_json: bool,
) -> None:
    """Publish a finished benchmark, or an archive of one, on the Hugging Face Hub; prints what it would do, unless --yes.

    Checks every file first, and refuses pixels that may not be shared. The token is the one that `hf auth login` keeps.
    """
    from afbench.workflows.publishing.push import prepare, send

    if yes and dry_run:
        raise click.UsageError("--yes and --dry-run exclude each other")
    if is_quiet():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        # the Hub's library draws bars of its own
        disable_progress_bars()
    with ExitStack() as stack:
        stage = partial(deferred_bar, stack)
        upload = prepare(folder, repo, private=private, residuals=residuals, may_share=may_share, stage=stage)
        url = send(upload, stage=stage) if yes else None
    if as_json:
        summary = {
            "folder": str(upload.folder),
            "to": upload.repo,
            "private": upload.private,
            "gated": upload.gated,
            "bytes": upload.bytes,
            "files": dict(upload.files),
            "url": url,
        }
        echo(json.dumps(summary, indent=2))
        return
    for path, size in upload.files.items():
        echo(f"{size:>14} {path}")
    echo(
        f"{upload.folder}: {len(upload.files)} files, {upload.bytes} bytes, {'private' if private else 'public'}, "
        f"{'gated: readers must ask for access' if upload.gated else 'not gated'}"
    )
    echo(f"uploaded to {url}" if url else f"nothing was uploaded; --yes uploads it to {upload.repo}")
