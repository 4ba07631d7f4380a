"""Read what a benchmark records of the run that wrote a shard, so that the shard can be computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
from afbench.localizers import known_localizers, load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.localizers.untrained import recorded_checkpoint
from afbench.plans import ATTACKS, Attack, canonical_json
from afbench.plans.attack_spec import SOURCE
from afbench.plans.own_attack import find_attack
from afbench.storage.config_manifest import ShardRecord, SplitManifest
from afbench.storage.manifests import CLEAN, Benchmark
from afbench.storage.shards import read_shards
from afbench.storage.stored_pixels import stored_sample

from ..adaptive import put_behind_recorded_defence
from ..generation.batch_log import logged_groups, parse_batch_sizes
from ..provenance import describe_config, difference, software

Loader = Callable[[str, Mapping[str, Any], str], Localizer]
"""From a config, its provenance and a device to the localizer it attacked."""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """How a shard was computed, as the log tells it; what the log doesn't tell has the value of a run today.

    ``batch_sizes`` are the images per batch by image size (height, width); ``logged`` is true if the log was readable.
    """

    device: str = "cpu"
    batch_size: int | None = None
    threads: int = field(default_factory=torch.get_num_threads)
    batch_sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    logged: bool = False
    deterministic: bool = True


@dataclass(frozen=True)
class LocalizerSource:
    """Where the localizer comes from if a folder can't tell: a user's own function, or weights that aren't registered.

    ``defence`` is what configs were attacked through, where it is a user's own or one that a user trained; ``attacks`` are a
    user's own.
    """

    localizer: str | None = None
    checkpoint: str | None = None
    device: str | None = None
    defence: str | None = None
    attacks: Sequence[str] = ()


def read_recorded_run(folder: Path, config: str, split: str, number: int) -> RecordedRun:
    """Find the run that wrote a shard in the log; the last one counts."""
    recorded_run = RecordedRun()
    for entry in logged_groups(folder):
        with suppress(ValueError, KeyError, TypeError, AttributeError):  # nobody vouches for the log
            if (entry["split"], entry["shard"]) == (split, number) and config in entry["wrote"]:
                # a run that met out of memory ended with the halved sizes
                batch_sizes = parse_batch_sizes(entry.get("launches", [])) | parse_batch_sizes(
                    entry["halved"]
                )
                batch_size = None if entry["batch_size"] is None else int(entry["batch_size"])
                recorded_run = RecordedRun(
                    device=str(entry["device"]),
                    batch_size=batch_size,
                    threads=int(entry["threads"]),
                    batch_sizes=batch_sizes,
                    logged=True,
                    deterministic=bool(entry.get("deterministic", True)),
                )
    return recorded_run


def setting_of(config: str, provenance: Mapping[str, Any], user_attack: Attack | None = None) -> Setting:
    """Return the attack setting that a config's provenance records; ``user_attack`` is its attack, where that is a user's own."""
    label = config.removeprefix(f"{provenance['localizer']['name']}-{provenance['attack']}-")
    phi = None if provenance["phi"] is None else Fraction(provenance["phi"])
    return Setting(
        str(provenance["attack"]),
        label,
        phi,
        int(provenance["steps"]),
        dict(provenance["params"]),
        user_attack,
    )


def runnable_setting(config: str, provenance: Mapping[str, Any], source: LocalizerSource) -> Setting:
    """Return the setting of a config with its attack, which is imported only where the user named it.

    Raises:
        UsageError: if it is an attack of the maker's own that the user did not name, or another version of it.
    """
    name = str(provenance["attack"])
    if name in ATTACKS:
        return setting_of(config, provenance)
    own_attacks = {attack.name: attack for attack, _ in map(find_attack, source.attacks)}
    if name not in own_attacks:
        raise UsageError(
            f"config {config} was made by '{name[:40]}', an attack that does not come with afbench; if it is yours, give "
            "--attack my_package.my_module:build"
        )
    recorded, current = provenance["params"].get(SOURCE), own_attacks[name].defaults[SOURCE]
    if recorded != current:
        raise UsageError(
            f"config {config} was made by attack '{name}' of file {str(recorded)[:12]}, this one's is {str(current)[:12]}; "
            "give the file it was made with"
        )
    return setting_of(config, provenance, own_attacks[name])


def localizer_loader(localizer_source: LocalizerSource) -> Loader:
    """Return a function that loads what configs attacked, with the defence in front; it loads each localizer once.

    The function raises UsageError if weights are not at hand, or if this version would attack in another way.
    """
    loaded: dict[str, Localizer] = {}

    def load(config: str, provenance: Mapping[str, Any], device: str) -> Localizer:
        identity = provenance["localizer"]
        key = canonical_json([identity, provenance.get("defence"), provenance.get("compile"), device])
        if key not in loaded:
            checkpoint = recorded_checkpoint(identity, localizer_source.checkpoint)
            bare_localizer = load_localizer(
                localizer_source.localizer or _known_architecture(config, identity),
                checkpoint,
                resolution=identity["resolution"],
                device=device,
            )
            if provenance.get("compile"):
                compile_forward(bare_localizer)
            localizer = put_behind_recorded_defence(
                bare_localizer, provenance, user_defence=localizer_source.defence, device=device
            )
            if localizer is None:
                raise UsageError(
                    f"config {config} was made through a defence that is not at hand: {provenance['defence']}; if it is "
                    "yours, give --through-defence"
                )
            loaded[key] = localizer
        _require_same(config, provenance, loaded[key])
        return loaded[key]

    return load


def _known_architecture(config: str, identity: Mapping[str, Any]) -> str:
    """Return the network that a config attacked, if it comes with afbench: a name that a file holds is never imported."""
    architecture = str(identity["architecture"])
    if architecture not in known_localizers():
        raise UsageError(
            f"config {config} attacked network '{architecture[:80]}', which does not come with afbench; if it is yours, give "
            "--localizer my_package.my_module:build"
        )
    return architecture


def _require_same(config: str, provenance: Mapping[str, Any], localizer: Localizer) -> None:
    # all that the hash of a config covers decides its pixels, so all of it must be the same
    current = describe_config(
        localizer,
        provenance["localizer"]["name"],
        setting_of(config, provenance),
        seed=provenance["seed"],
        seed_rule=SEED_RULE,
        precision=provenance["precision"],
        attack_at=provenance["attack_at"],
        defence=defence_of(localizer),
        compiled=bool(provenance.get("compile")),
    )
    if changes := difference(provenance, current):
        raise UsageError(f"config {config} cannot be made again as it was: {'; '.join(changes)}")


def batch_configs(benchmark: Benchmark, config: str, split: str, number: int) -> list[str]:
    """List the configs whose attacks ran in the same batches as a shard's.

    Raises:
        AfbenchError: if one of them is not in the folder.
    """
    manifest = benchmark.attacked[config]
    names = manifest.splits[split].shards[number].together
    if names:
        missing = sorted(set(names) - benchmark.attacked.keys())
        if missing:
            raise AfbenchError(
                f"config {config} was made together with {missing[0]}, which is not in the folder"
            )
        return list(names)
    # a version that recorded no names ran all configs of a sharing group in one batch
    provenance = manifest.provenance
    group = _group(provenance["attack"])
    return [
        name
        for name, candidate in benchmark.attacked.items()
        if candidate.provenance["localizer"] == provenance["localizer"]
        and _group(candidate.provenance["attack"]) == group
        and split in candidate.splits
    ]


def _group(attack: str) -> str:
    # an attack of the maker's own shares gradients with no other
    return ATTACKS[attack].group if attack in ATTACKS else attack


def stored_samples(benchmark: Benchmark, split: str, number: int) -> list[Sample]:
    """Read the originals of a shard from config ``clean``.

    Raises:
        AfbenchError: if that shard is damaged.
    """
    shard = benchmark.configs[CLEAN].splits[split].shards[number]
    return [stored_sample(benchmark.folder, row) for row in read_shards(benchmark.folder, [shard])]


@contextmanager
def computing_like(provenance: Mapping[str, Any], recorded_run: RecordedRun) -> Iterator[None]:
    """Use the arithmetic and the number of threads of a recorded run, and restore the threads afterwards."""
    previous_threads = torch.get_num_threads()
    torch.set_num_threads(recorded_run.threads)
    try:
        with compute_precision(
            provenance["precision"], recorded_run.device, deterministic=recorded_run.deterministic
        ):
            yield
    finally:
        torch.set_num_threads(previous_threads)


def has_same_software(part: SplitManifest, shard: ShardRecord, recorded_run: RecordedRun) -> bool:
    """Return True if the software that the manifest records for a shard is the software here."""
    recorded, current = shard.software or part.software or {}, software()
    return recorded_run.logged and all(recorded.get(key) == current[key] for key in ("afbench", "libraries"))


def explain_difference(part: SplitManifest, shard: ShardRecord, recorded_run: RecordedRun) -> str:
    """Say why bytes may come out differently here: other versions, or a log that is lost."""
    changes = difference(shard.software or part.software or {}, software())
    if not recorded_run.logged:
        changes.append("log/run.jsonl does not say at which batch size and with how many threads it was made")
    return "; ".join(changes) or "the versions are the same; the processor or the memory may be another"
