"""``afbench generate``."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any

import click

from afbench.api.generating import generate, plan
from afbench.storage.shard_format import WITHOUT_PICTURES
from afbench.workflows.executors.executor_spec import EXECUTORS
from afbench.workflows.request import through_text

from .echo import echo
from .function_keywords import function_keywords, keyword_of
from .name_types import DEFENCE
from .options import plan_options
from .plan_command import command as plan_command
from .plan_command import echo_forecast
from .progress import quiet_option


@click.command(
    "generate",
    epilog="Example: afbench generate --localizer reference --attack cw --steps 250 --limit 4 --out build/example",
)
@plan_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the benchmark. Default: afbench-out/<plan, or localizer-source>.",
)
@click.option(
    "--checkpoint",
    metavar="PATH",
    help="Weights of the localizer, as released or registered with `afbench weights add`; 'random' for untrained ones.",
)
@click.option(
    "--localizer-name", metavar="NAME", help="What configs call the localizer, e.g. for other weights."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, ...")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the localizer; recorded.",
)
@click.option(
    "--allow-imprecise",
    is_flag=True,
    help="Accept tf32 or bf16 also for a localizer whose output they change clearly (trufor); recorded.",
)
@click.option(
    "--batch-size", type=int, help="Images per batch of the localizer. Default: as many as suit their size."
)
@click.option(
    "--shard-size",
    type=int,
    help="Samples per shard, the unit that is committed; fewer where it might pass 500 MB. Default: what takes about two minutes, at most 64.",
)
@click.option(
    "--format",
    type=click.Choice(["parquet", "hdf5"]),
    help="Format of the shards; a folder has one. Of hdf5 datasets.load_dataset gives the rows without images. Default: that of the plan or the folder, else parquet.",
)
@click.option(
    "--image-format",
    type=click.Choice(["webp", "png"]),
    default="webp",
    show_default=True,
    help="Lossless format of stored images.",
)
@click.option(
    "--attack-at",
    type=click.Choice(["native", "model"]),
    default="native",
    show_default=True,
    help="Keep the size of the originals (phi holds on what is stored and resized later), or store and attack them at the size the localizer resizes to, as the ANSM paper does.",
)
@click.option(
    "--authentic",
    is_flag=True,
    help="Also store the sources' authentic images, unattacked, as config 'authentic', for false-positive rates.",
)
@click.option(
    "--through-defence",
    type=DEFENCE,
    metavar="NAME[:SETTING]",
    help="Attack through this defence, with full knowledge of it: jpeg:75, median, ansm, ansm:CHECKPOINT, your own as my_package.my_module:build, ... Its gradients are exact, their mean over fixed draws if it is random (EOT), or the identity if it has none (BPDA). Configs are called <localizer>_<defence>-<attack>-<setting>.",
)
@click.option(
    "--through-post",
    metavar="STEP",
    help="Attack so that the noise survives a step of posting: jpeg:75, webp:80, resize:0.75, blur:1 or chain:social. Logits are averaged over qualities around the stated one (EOT), compression and rounding count as the identity (BPDA). Configs are called <localizer>_post_<step>-<attack>-<setting>.",
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Make the shards again that lack samples because an attack failed (NaN gradients, out of memory); others are not touched.",
)
@click.option(
    "--image-threads",
    type=int,
    metavar="N",
    help="Threads that decode and encode images during the attack; 0 for none. Default: one per processor.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=True,
    show_default=True,
    help="On a GPU use only kernels that give the same bytes again; others may be faster. Every shard records its level (L1 or L2; on a CPU L0).",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Run the localizer through torch.compile: minutes before the first image, other bytes; recorded.",
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    help="Have the shards made by workers: processes on this machine, tasks on a Ray cluster, Slurm jobs; see docs/scale-out.md.",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Workers of --executor. Default: one for each of --devices, or as many as the Ray cluster has room for.",
)
@click.option(
    "--devices",
    metavar="LIST",
    help="Devices of --executor local, e.g. cuda:0,cuda:1; its workers take them in turn. Default: --device, and of 'cuda' all.",
)
@click.option(
    "--executor-param",
    "executor_params",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of Ray: address, num_cpus, num_gpus; of Slurm: what submitit takes, e.g. timeout_min=600, slurm_partition=gpu. Repeat.",
)
@click.option(
    "--shard-index",
    type=int,
    metavar="I",
    help="Make only every --num-shards-th shard from this one on (from 0); the last of these processes publishes.",
)
@click.option("--num-shards", type=int, metavar="N", help="Processes that share the plan by --shard-index.")
@click.option(
    "--ignore-disk", is_flag=True, help="Start even if the missing images seem not to fit on the disk."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
@quiet_option
def command(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Attack a source with every setting asked for, and store, score and describe the result.

    Run it again to resume or to add configs; what is finished is not touched.
    """
    keywords = function_keywords()
    if dry_run:
        through_text(keywords["through_defence"], keywords["through_post"])
        names = {keyword_of(option) for option in plan_command.params} & keywords.keys()
        echo_forecast(plan(**{name: keywords[name] for name in names}), as_json)
        return
    outcome = generate(**keywords)
    folder = outcome.folder
    # on stderr, like all warnings, so that --json stays alone on stdout
    for source, terms in outcome.restricted.items():
        echo(
            f"{source}: {terms}. {folder} holds its pixels, also in the attacked images: keep it to yourself",
            err=True,
        )
    for line in outcome.warnings:
        echo(f"warning: {line}", err=True)
    if outcome.shorter:
        echo(
            f"{len(outcome.shorter)} configs of {folder} cover only its first samples, since it has grown without them: "
            f"{', '.join(outcome.shorter)}; ask for them with the same --limit to extend them",
            err=True,
        )
    if as_json:
        summary = {
            "folder": str(outcome.folder),
            "configs": list(outcome.configs),
            "shards_written": outcome.shards_written,
            "gradients": outcome.gradients,
            "excluded": dict(outcome.excluded_counts),
            "restricted": dict(outcome.restricted),
            "shards_left": outcome.shards_left,
            "warnings": list(outcome.warnings),
            "shorter": list(outcome.shorter),
        }
        echo(json.dumps(summary, indent=2))
        return
    echo(
        f"{len(outcome.configs)} configs in {folder} ({outcome.shards_written} shards written, {outcome.gradients} gradients)"
    )
    if outcome.shards_left:
        echo(
            f"part {keywords['shard_index']} of {keywords['num_shards']} is done; {outcome.shards_left} shards of other parts are missing, and the last part publishes {folder}"
        )
        return
    for reason, number in outcome.excluded_counts.items():
        echo(f"excluded: {number} {reason}")
    from afbench.storage.run_folder import folder_format, is_pattern

    is_hdf5 = folder_format(folder) == "hdf5"
    # `datasets` would take such a path for a pattern of files, and finds no images in HDF5
    reader = "afbench.load" if is_pattern(folder) or is_hdf5 else "datasets.load_dataset"
    arguments = f"{json.dumps(str(folder), ensure_ascii=False)}, {json.dumps(outcome.configs[0])}"
    echo(f"next: afbench stats {quote(str(folder))}; {reader}({arguments})")
    if is_hdf5:
        echo(WITHOUT_PICTURES)
