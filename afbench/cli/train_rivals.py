"""``afbench train hardened`` and ``afbench train nrp``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import click

from afbench.api.train_functions import Trained
from afbench.api.train_functions import hardened as train_hardened
from afbench.api.train_functions import nrp as train_nrp

from .echo import echo
from .function_keywords import function_keywords
from .name_types import ATTACK, CONFIG, LOCALIZER
from .progress import quiet_option

_SHARED = (
    click.option("--data", type=click.Path(path_type=Path), required=True, help="A finished benchmark, of Parquet or HDF5 shards."),
    click.option("--localizer", type=LOCALIZER, required=True, metavar="NAME", help="What the benchmark's config attacked."),
    click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the training."),
    click.option(
        "--config",
        type=CONFIG,
        metavar="CONFIG",
        help="What to train on, e.g. reference-fgsm-3 or reference-pgd. Default: FGSM at 3/255, or the first.",
    ),
    click.option("--epochs", type=int, metavar="N", help="Passes over the data."),
    click.option("--lr", type=float, metavar="RATE", help="Learning rate; it falls to 0 along a cosine."),
    click.option("--batch-size", type=int, metavar="N", help="Pairs per step."),
    click.option("--crop", type=int, metavar="N", help="Train on random crops of N x N pixels."),
    click.option("--resize", type=int, metavar="N", help="Train on images resized to N x N pixels."),
    click.option("--clip", type=float, metavar="NORM", help="Largest gradient norm; 0 for no limit."),
    click.option("--validation", type=float, metavar="SHARE", help="Share of the images, by groups, for validation."),
    click.option("--seed", type=int, metavar="N", help="Seed of every random draw."),
    click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read images."),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ..."),
    click.option("--json", "as_json", is_flag=True, help="Print the card of the best checkpoint."),
    quiet_option,
)  # fmt: skip


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    # click lists the option that was added last first
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.command(
    "hardened",
    epilog="Example: afbench train hardened --data afbench-out/train --localizer reference --method both --out hardened",
)
@click.option(
    "--method",
    type=click.Choice(["at", "gradient-penalty", "both", "none"]),
    default="both",
    show_default=True,
    help="Train on originals and attacked images (at), on originals with a penalty on the input gradient, or both. none: the control of a classifier.",
)
@click.option(
    "--task",
    type=click.Choice(["localize", "classify"]),
    default="localize",
    show_default=True,
    help="Harden the localizer, or an image-level classifier of forged and authentic images.",
)
@click.option("--penalty", type=float, metavar="LAMBDA", help="Weight of the penalty. Default: 0.1.")
@click.option(
    "--attack",
    type=ATTACK,
    metavar="NAME",
    help="Attack the weights in training anew at every step, e.g. fgsm or pgd. Default: the benchmark's own images.",
)
@click.option("--phi", default="3/255", show_default=True, help="Phi of --attack.")
@click.option("--steps", type=int, metavar="N", help="Steps of --attack, if it takes any.")
@click.option(
    "--checkpoint", metavar="PATH", help="What to start from, if neither embedded nor registered; a classifier for classify."
)  # fmt: skip
@_shared
def hardened(out: Path, localizer: str, task: str, as_json: bool, **options: Any) -> None:
    """Train a localizer's own weights, or a classifier's, so that attacks find it harder.

    Then attack the result like any localizer, with --checkpoint OUT/best.safetensors: attacks on the old weights say little about
    the new ones. Run it again to go on after an interruption.
    """
    trained = train_hardened(**function_keywords())
    echo_training(trained, as_json)
    if task == "localize" and not as_json:
        echo(
            f"next: afbench generate --localizer {localizer} --checkpoint {quote(str(trained.checkpoint))} --attack pgd --out attacked"
        )


@click.command(
    "nrp", epilog="Example: afbench train nrp --data afbench-out/train --localizer reference --out nrp"
)
@click.option(
    "--features",
    metavar="NETWORK",
    help="Network whose features are restored: localizer (default), or a network of timm, which then serves any localizer.",
)
@click.option(
    "--feature-weights", metavar="WHICH", help="Weights of a timm network: imagenet (downloaded), none, PATH."
)
@click.option("--depth", type=click.Choice(["shallow", "middle", "topmost"]), help="Third of the localizer.")
@click.option(
    "--perturbation",
    type=click.Choice(["feature", "benchmark"]),
    help="Purify images whose features were pushed away (default), or the benchmark's attacked ones.",
)
@click.option(
    "--pixels",
    type=float,
    metavar="WEIGHT",
    help="Weight of the distance of pixels, next to that of features.",
)
@click.option(
    "--checkpoint", metavar="PATH", help="Weights of the localizer, if neither embedded nor registered."
)
@_shared
def nrp(data: Path, localizer: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train a purifier in feature space, as NRP does: from originals alone, unless --perturbation says otherwise.

    Run it again to go on after an interruption.
    """
    trained = train_nrp(**function_keywords())
    echo_training(trained, as_json)
    if not as_json:
        echo(
            f"next: afbench predict --data {quote(str(data))} --localizer {localizer} --defence {quote(f'nrp:{out}')} --out submission"
        )


def echo_training(trained: Trained, as_json: bool) -> None:
    """Print the card of a training, or a line that says where its best checkpoint is."""
    card = trained.card
    if as_json:
        echo(json.dumps(card, indent=2, sort_keys=True))
        return
    echo(f"best of {card['stage']}: validation loss {card['validation_loss']:.4g}, in {trained.checkpoint}")
    for name, first_value in card.get("accuracy", {}).get("before", {}).items():
        last_value = card["accuracy"]["after"][name]
        echo(
            f"{name}: {last_value}" if name == "images" else f"{name}: {first_value:.3f} -> {last_value:.3f}"
        )
