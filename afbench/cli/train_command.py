"""``afbench train``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import click

from afbench.api.train_functions import ansm as train_ansm

from .echo import echo
from .function_keywords import function_keywords
from .hints import NamingGroup
from .name_types import ATTACK, CONFIG, LOCALIZER
from .progress import quiet_option
from .train_rivals import echo_training, hardened, nrp


@click.group(
    "train",
    cls=NamingGroup,
    epilog="Example: afbench train ansm --data afbench-out/train --localizer reference --out ansm --preset short",
)
def command() -> None:
    """Train a defence on a benchmark."""


command.add_command(hardened)
command.add_command(nrp)


@command.command(
    "ansm",
    epilog="Example: afbench train ansm --data afbench-out/train --localizer reference --out ansm --preset short",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="A finished benchmark, of Parquet or HDF5 shards.",
)
@click.option(
    "--localizer", type=LOCALIZER, required=True, metavar="NAME", help="What the benchmark's config attacked."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the training.")
@click.option(
    "--config",
    type=CONFIG,
    metavar="CONFIG",
    help="What to train on, e.g. reference-fgsm-3 or reference-fgsm. Default: FGSM at 3/255, as the paper, or the first.",
)
@click.option(
    "--preset",
    type=click.Choice(["paper", "short", "shipped"]),
    default="paper",
    show_default=True,
    help="The paper's Table II for this localizer, or the same for few epochs, or how the shipped module was made. The options below replace its values.",
)
@click.option(
    "--recipe",
    type=click.Choice(["paper", "find-write"]),
    help="One network by Algorithm 1, or a finder and a writer that sees its mask. Default: the preset's.",
)
@click.option(
    "--depth", type=click.Choice(["shallow", "middle", "topmost"]), help="Third whose features align."
)
@click.option("--loss", type=click.Choice(["pwr", "ffa", "mgr", "ffa+mgr"]), help="Stages to train.")
@click.option("--reverse", is_flag=True, default=None, help="FFA with KL(original || purified).")
@click.option("--mgr-mask", type=click.Choice(["predicted", "gt"]), help="The mask that MgR trains towards.")
@click.option(
    "--dice",
    type=click.Choice(["squares", "plain"]),
    help="Denominator of MgR's dice loss: squares, as the paper prints it, or plain sums.",
)
@click.option("--encoder", metavar="NAME", help="small, or a network of timm, e.g. efficientnet_b0.")
@click.option(
    "--encoder-weights",
    metavar="WHICH",
    help="imagenet (downloaded), none, or PATH.",
)
@click.option(
    "--crop",
    type=int,
    metavar="N",
    help="Train on random crops of N x N pixels, for images at their own size.",
)
@click.option(
    "--resize",
    type=int,
    metavar="N",
    help="Train on images resized to N x N pixels, the localizer's own size; the module then resizes in use too.",
)
@click.option("--mgr-side", type=int, metavar="N", help="N of the second stage, if it differs.")
@click.option("--epochs", type=(int, int), metavar="FFA MGR", help="Passes over the data of both stages.")
@click.option(
    "--steps", type=(int, int), metavar="FIRST SECOND", help="Steps of both stages instead of --epochs."
)
@click.option("--lr", type=(float, float), metavar="FFA MGR", help="Learning rates of both stages.")
@click.option("--batch-size", type=int, metavar="N", help="Images per step, over all processes.")
@click.option("--schedule", type=click.Choice(["plateau", "cosine"]), help="How the learning rate falls.")
@click.option(
    "--average", type=float, metavar="DECAY", help="Keep a running average of the weights; 0 for none."
)
@click.option("--clip", type=float, metavar="NORM", help="Largest gradient norm; 0 for no limit.")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), help="Of the module's passes while it is trained."
)
@click.option("--bound", type=float, metavar="NOISE", help="Largest noise added, of the [0, 1] range.")
@click.option("--originals", type=float, metavar="SHARE", help="Share of originals among a finder's images.")
@click.option(
    "--noisy",
    type=float,
    metavar="SHARE",
    help="Share of originals with random noise among a finder's images.",
)
@click.option(
    "--attacks-from",
    type=float,
    metavar="SHARE",
    help="Share of a finder's steps after which it also sees attacked images.",
)
@click.option(
    "--attack",
    type=ATTACK,
    metavar="NAME",
    help="Attack the localizer anew at every step, e.g. fgsm, instead of reading the benchmark's attacked images.",
)
@click.option("--phi", default="3/255", show_default=True, help="Phi of --attack.")
@click.option("--attack-steps", type=int, metavar="N", help="Steps of --attack, if it takes any.")
@click.option(
    "--augment",
    multiple=True,
    type=click.Choice(["flip", "perturb"]),
    help="Flip and transpose; vary the attack's noise at random. Repeat for both.",
)
@click.option(
    "--validation", type=float, metavar="SHARE", help="Share of the images, by groups, for validation."
)
@click.option("--seed", type=int, metavar="N", help="Seed of every random draw.")
@click.option(
    "--checkpoint", metavar="PATH", help="Weights of the localizer, if neither embedded nor registered."
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that read images."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option("--json", "as_json", is_flag=True, help="Print the card of the best checkpoint.")
@quiet_option
def ansm(data: Path, localizer: str, out: Path, as_json: bool, **options: Any) -> None:
    """Train the ANSM, a network that undoes attacks on one localizer.

    Run it again to go on after an interruption. For several devices put `accelerate launch --num_processes N -m` before it.
    """
    trained = train_ansm(**function_keywords())
    echo_training(trained, as_json)
    if not as_json:
        echo(
            f"next: afbench predict --data {quote(str(data))} --localizer {localizer} --defence {quote(f'ansm:{out}')} --out submission"
        )
