"""``afbench weights``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from afbench.folders import weights_folder
from afbench.localizers.weights import list_weights, remove_weights
from afbench.report.text import fold_line

from .echo import echo
from .hints import NamingGroup
from .name_types import LOCALIZER, PUBLISHED
from .text_tables import table_width


@click.group("weights", cls=NamingGroup, epilog="Example: afbench weights list")
def command() -> None:
    """Your copies of published weights: register, check and remove them.

    They are kept in AFBENCH_WEIGHTS, else in ~/.cache/afbench/weights, as safetensors.
    """


@command.command("list", epilog="Example: afbench weights list --json")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_command(as_json: bool) -> None:
    """Print where each localizer's weights are published, and which are here."""
    rows = list_weights()
    if as_json:
        echo(json.dumps({"folder": str(weights_folder()), "weights": rows}, indent=2))
        return
    echo(f"folder: {weights_folder()}")
    for row in rows:
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
def add_command(name: str, file: Path, overwrite: bool, as_json: bool) -> None:
    """Check FILE, a checkpoint as its authors release it, and keep it for localizer NAME.

    For pscc FILE is the folder with its three files. Nothing in a file is run.
    """
    from afbench.localizers.register import add_weights

    weights = add_weights(name, file, overwrite=overwrite)
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
    removed = remove_weights(name)
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
def check_command(name: str, checkpoint: str | None, device: str, as_json: bool) -> int:
    """Check that localizer NAME, or your own MODULE:FUNCTION, keeps what attacks and scores rest on.

    MODULE:FUNCTION is called with a checkpoint (or None) and a device, and returns a localizer; afbench.as_localizer makes
    one of any network that maps an image (N, 3, H, W), RGB in [0, 1], to logits (N, 1, H, W). Exit code 1 if a promise
    is broken.
    """
    from afbench.localizers import load_localizer
    from afbench.localizers.conformance import check_localizer

    findings = []
    for finding in check_localizer(load_localizer(name, checkpoint, device=device), device=device):
        # print each check as it ends: a large network takes a while for some
        findings.append(finding)
        if not as_json:
            echo(f"{'ok    ' if finding.passed else 'BROKEN'}  {finding.name}: {finding.detail}")
    if as_json:
        summary = {finding.name: {"passed": finding.passed, "detail": finding.detail} for finding in findings}
        echo(json.dumps(summary, indent=2))
    return 0 if all(finding.passed for finding in findings) else 1
