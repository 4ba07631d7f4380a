"""``afbench weights``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from afbench.api import weights_functions
from afbench.reports.text import fold_line

from .echo import echo
from .function_keywords import function_keywords
from .hints import NamingGroup
from .name_types import LOCALIZER, PUBLISHED
from .text_tables import table_width

if TYPE_CHECKING:
    from afbench.localizers.conformance import Finding


@click.group("weights", cls=NamingGroup, epilog="Example: afbench weights list")
def command() -> None:
    """Your copies of published weights: register, check and remove them.

    They are kept in AFBENCH_WEIGHTS, else in ~/.cache/afbench/weights, as safetensors.
    """


@command.command("list", epilog="Example: afbench weights list --json")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """Print where each localizer's weights are published, and which are here."""
    table = weights_functions.list()
    if as_json:
        echo(json.dumps({"folder": str(table.folder), "weights": table.rows}, indent=2))
        return
    echo(f"folder: {table.folder}")
    for row in table.rows:
        registration = row["registered"]
        state = (
            f"registered from {registration['origin']}, {registration['weights_sha256'][:12]}"
            if registration
            else row["problem"] or "not registered"
        )
        echo(f"\n{row['name']}  {row['title']}: {state}")
        file = f"{row['file']}, about {row['megabytes']} MB, sha256 {row['sha256'] or 'not known'}"
        for label, text in (("file", file), ("where", row["where"]), ("licence", row["licence"])):
            echo(fold_line(f"  {label:8} {text}", table_width(wide=False), " " * 11))


@command.command("add", epilog="Example: afbench weights add mvss mvssnet_casia.pt")
@click.argument("name", type=PUBLISHED)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace other weights of this name.")
@click.option("--json", "as_json", is_flag=True, help="Print what was registered as JSON.")
def add_command(name: str, as_json: bool, **options: Any) -> None:
    """Check FILE, a checkpoint as its authors release it, and keep it for localizer NAME.

    For pscc FILE is the folder with its three files. Nothing in a file is run.
    """
    weights = weights_functions.add(**function_keywords())
    if as_json:
        echo(json.dumps({**asdict(weights), "path": str(weights.path)}, indent=2))
        return
    echo(f"{name}: registered as {weights.path} (weights {weights.weights_sha256[:12]})")
    echo(f"next: afbench generate --localizer {name} --attack fgsm --limit 4")


@command.command("remove", epilog="Example: afbench weights remove mvss")
@click.argument("name", type=PUBLISHED)
@click.option("--json", "as_json", is_flag=True, help="Print whether anything was removed as JSON.")
def remove_command(name: str, as_json: bool) -> None:
    """Delete the registered weights of localizer NAME; your own file stays."""
    removed = weights_functions.remove(name)
    if as_json:
        echo(json.dumps({"name": name, "removed": removed}, indent=2))
        return
    echo(f"{name}: {'removed' if removed else 'nothing was registered'}")


@command.command("check", epilog="Example: afbench weights check reference")
@click.argument("name", type=LOCALIZER)
@click.option(
    "--checkpoint", metavar="PATH", help="Weights that are not registered; 'random' for untrained ones."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def check_command(as_json: bool, **options: Any) -> int:
    """Check that localizer NAME, or your own MODULE:FUNCTION, keeps the promises that attacks and scores need.

    MODULE:FUNCTION is called with a checkpoint (or None) and a device, and returns a localizer; afbench.as_localizer makes
    one of any network that maps an image (N, 3, H, W), RGB in [0, 1], to logits (N, 1, H, W). Exit code 1 if a promise
    is broken.
    """
    checked = weights_functions.check(**function_keywords(), on_finding=None if as_json else _echo_finding)
    if as_json:
        findings = {
            finding.name: {"passed": finding.passed, "detail": finding.detail} for finding in checked.findings
        }
        echo(json.dumps(findings, indent=2))
    return 0 if checked.passed else 1


def _echo_finding(finding: Finding) -> None:
    echo(f"{'ok    ' if finding.passed else 'BROKEN'}  {finding.name}: {finding.detail}")
