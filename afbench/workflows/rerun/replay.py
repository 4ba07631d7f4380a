"""Make a stored shard, or one row of it, again: the same settings in the same launches on the same originals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from afbench.core import AfbenchError, Localizer, Sample, Setting, UsageError
from afbench.defences.defended_localizer import defence_of
from afbench.engine import compute_precision
from afbench.engine.grid import SEED_RULE
from afbench.images import decode_stored
from afbench.localizers import load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.plan import ATTACKS, canonical_json
from afbench.storage.config_manifest import ShardRecord, SplitManifest
from afbench.storage.manifests import CLEAN, Benchmark
from afbench.storage.shards import read_rows

from ..adaptive import put_behind_recorded_defence
from ..generation.batch_log import logged_groups, parse_batch_sizes
from ..provenance import describe_config, difference, software

Loader = Callable[[str, Mapping[str, Any], str], Localizer]
"""From a config, its ``how`` and a device to the localizer it attacked."""


@dataclass(frozen=True)
class Launch:
    """How a shard was computed, as the log tells it; what is not known is as it would be now."""

    device: str = "cpu"
    batch_size: int | None = None
    threads: int = field(default_factory=torch.get_num_threads)
    launches: Mapping[tuple[int, int], int] = field(default_factory=dict)
    logged: bool = False
    deterministic: bool = True


@dataclass(frozen=True)
class Recipe:
    """Where the localizer comes from, where a folder cannot know: a user's own, or weights nobody registered."""

    localizer: str | None = None
    checkpoint: str | None = None
    device: str | None = None


def read_launch(folder: Path, config: str, split: str, number: int) -> Launch:
    """Find the run that wrote a shard in the log; the last one counts."""
    found = Launch()
    for entry in logged_groups(folder):
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # nobody vouches for the log
            if (entry["split"], entry["shard"]) == (split, number) and config in entry["wrote"]:
                launches = parse_batch_sizes(entry.get("launches", [])) | parse_batch_sizes(entry["halved"])
                batch_size = None if entry["batch_size"] is None else int(entry["batch_size"])
                found = Launch(
                    str(entry["device"]),
                    batch_size,
                    int(entry["threads"]),
                    launches,
                    True,
                    bool(entry.get("deterministic", True)),
                )
    return found


def setting_of(config: str, how: Mapping[str, Any]) -> Setting:
    """The setting of a config, from its manifest's ``how``."""
    label = config.removeprefix(f"{how['localizer']['name']}-{how['attack']}-")
    phi = None if how["phi"] is None else Fraction(how["phi"])
    return Setting(str(how["attack"]), label, phi, int(how["steps"]), dict(how["params"]))


def localizers_of(recipe: Recipe) -> Loader:
    """A way to load what configs attacked, behind the defences they stood behind; each is loaded once.

    It raises UsageError if weights are not at hand, or this version would attack in another way, which is said.
    """
    loaded: dict[str, Localizer] = {}

    def load(config: str, how: Mapping[str, Any], device: str) -> Localizer:
        told = how["localizer"]
        key = canonical_json([told, how.get("defence"), how.get("compile"), device])
        if key not in loaded:
            checkpoint = recipe.checkpoint or ("random" if told["untrained"] else None)
            bare = load_localizer(
                recipe.localizer or told["architecture"],
                checkpoint,
                resolution=told["resolution"],
                device=device,
            )
            if how.get("compile"):
                compile_forward(bare)
            behind = put_behind_recorded_defence(bare, how, device=device)
            if behind is None:
                raise UsageError(
                    f"config {config} was made through a defence that is not at hand: {how['defence']}"
                )
            loaded[key] = behind
        _require_same(config, how, loaded[key])
        return loaded[key]

    return load


def _require_same(config: str, how: Mapping[str, Any], localizer: Localizer) -> None:
    now = describe_config(
        localizer,
        how["localizer"]["name"],
        setting_of(config, how),
        seed=how["seed"],
        seed_rule=SEED_RULE,
        precision=how["precision"],
        attack_at=how["attack_at"],
        defence=defence_of(localizer),
        compiled=bool(how.get("compile")),
    )
    if changed := difference(how, now):
        raise UsageError(f"config {config} cannot be made again as it was: {'; '.join(changed)}")


def together(benchmark: Benchmark, config: str, split: str, number: int) -> list[str]:
    """The configs that ran in the same launches as a shard.

    Raises:
        AfbenchError: if one of them is not in the folder.
    """
    manifest = benchmark.attacked[config]
    told = manifest.splits[split].shards[number].together
    if told:
        lost = sorted(set(told) - benchmark.attacked.keys())
        if lost:
            raise AfbenchError(
                f"config {config} was made together with {lost[0]}, which is not in the folder"
            )
        return list(told)
    provenance = manifest.provenance  # of a version that did not say: then most likely all that could
    group = ATTACKS[provenance["attack"]].group
    return [
        name
        for name, other in benchmark.attacked.items()
        if other.provenance["localizer"] == provenance["localizer"]
        and ATTACKS[other.provenance["attack"]].group == group
        and split in other.splits
    ]


def stored_samples(benchmark: Benchmark, split: str, number: int) -> list[Sample]:
    """The originals of a shard, from config ``clean``.

    Raises:
        AfbenchError: if that shard is damaged.
    """
    path = benchmark.configs[CLEAN].splits[split].shards[number].path
    return [
        Sample(
            row["sample_id"],
            decode_stored(row["image"]),
            decode_stored(row["mask"]),
            row["group"],
            row["kind"],
        )
        for row in read_rows(benchmark.folder, [path])
    ]


@contextmanager
def computing_like(how: Mapping[str, Any], launch: Launch) -> Iterator[None]:
    """The arithmetic and the number of threads of a launch, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(launch.threads)
    try:
        with compute_precision(how["precision"], launch.device, deterministic=launch.deterministic):
            yield
    finally:
        torch.set_num_threads(before)


def same_surroundings(part: SplitManifest, shard: ShardRecord, launch: Launch) -> bool:
    """True if what made a shard of a split is what would make it here, as far as anyone wrote down."""
    made, now = shard.software or part.software or {}, software()
    return launch.logged and all(made.get(key) == now[key] for key in ("afbench", "libraries"))


def what_differs(part: SplitManifest, shard: ShardRecord, launch: Launch) -> str:
    """Why bytes may come out differently here: versions, or that the log is lost."""
    changed = difference(shard.software or part.software or {}, software())
    if not launch.logged:
        changed.append("log/run.jsonl does not say at which batch size and with how many threads it was made")
    return "; ".join(changed) or "the versions are the same; the processor or the memory may be another"
