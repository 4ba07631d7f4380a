"""Regenerate a damaged shard of a benchmark, and store it if it has the recorded bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from afbench.core import AfbenchError, BadSample, ReadOptions, Sample
from afbench.defences.defended_localizer import undefended
from afbench.engine import judge_samples, run_settings
from afbench.engine.block import AttackedRow
from afbench.files import commit_bytes
from afbench.sources import SourceOptions, open_source
from afbench.storage.manifests import AUTHENTIC, Benchmark, ids_sha256
from afbench.storage.shards import write_shard

from ..generation.cuts import stages_of
from ..generation.model_size import fit_source
from ..generation.splits import Split
from ..generation.stored_rows import attacked_row, clean_row, hash_sample
from ..request import AttackAt
from .recorded_run import (
    Loader,
    LocalizerSource,
    computing_like,
    explain_difference,
    read_recorded_run,
    runnable_setting,
    stored_samples,
)


class ShardKey(NamedTuple):
    """Which shard of a benchmark: its config, its split, and its number in the split."""

    config: str
    split: str
    number: int


def error_of(action: Callable[[], None]) -> str:
    """Run an action and return its error as one line; an empty text if it had none."""
    try:
        action()
    except AfbenchError as error:
        return str(error)
    return ""


def regenerate_attacked(
    benchmark: Benchmark,
    shards: Mapping[str, ShardKey],
    batch_names: Sequence[str],
    load: Loader,
    localizer_source: LocalizerSource,
    problems: dict[str, str],
) -> None:
    """Regenerate shards, given by path, whose attacks shared their batches.

    Args:
        benchmark: the benchmark to repair.
        shards: the damaged shards by path; all of one split and number.
        batch_names: all configs of these batches, also those whose shards are sound.
        load: returns the localizer of a config.
        localizer_source: what the folder cannot tell: where to compute, and a user's own attacks.
        problems: filled with a message for every path that could not be stored.

    Raises:
        AfbenchError: if the localizer or the originals are not available.
    """
    config, split, number = next(iter(shards.values()))
    manifest = benchmark.attacked[config]
    provenance, part = manifest.provenance, manifest.splits[split]
    record = part.shards[number]
    recorded_run = read_recorded_run(benchmark.folder, config, split, number)
    recorded_run = replace(recorded_run, device=localizer_source.device or recorded_run.device)
    localizer = load(config, provenance, recorded_run.device)
    samples = stored_samples(benchmark, split, number)
    settings = {
        runnable_setting(name, benchmark.attacked[name].provenance, localizer_source): name
        for name in batch_names
    }
    with computing_like(provenance, recorded_run):
        original_results = judge_samples(
            undefended(localizer), samples, batch_size=recorded_run.batch_size, device=recorded_run.device
        )
        results_by_setting = run_settings(
            localizer,
            samples,
            original_results,
            list(settings),
            seed=provenance["seed"],
            batch_size=recorded_run.batch_size,
            device=recorded_run.device,
            image_format=record.stored_format,
            batch_sizes=recorded_run.batch_sizes,
        )
    hashes = {sample.sample_id: hash_sample(sample) for sample in samples}
    paths = {shard.config: path for path, shard in shards.items()}
    for setting, results in results_by_setting.items():
        name = settings[setting]
        if name in paths:
            rows = [
                attacked_row(result, setting, localizer, manifest.localizer_name, split, hashes)
                for result in results
                if isinstance(result, AttackedRow)
            ]
            problem = error_of(
                partial(
                    _put_back,
                    benchmark,
                    ShardKey(name, split, number),
                    rows,
                    explain_difference(part, record, recorded_run),
                )
            )
            if problem:
                problems[paths[name]] = problem


def regenerate_originals(
    benchmark: Benchmark, shard: ShardKey, sources: Mapping[str, str | None], load: Loader
) -> None:
    """Regenerate a shard of originals from its source.

    Raises:
        AfbenchError: if the source is not available, or has other samples now.
    """
    part = benchmark.configs[shard.config].splits[shard.split]
    split = _open_split(benchmark, shard, sources, load)
    ids = split.shards[shard.number] if shard.number < len(split.shards) else []
    if ids_sha256(ids) != part.shards[shard.number].ids_sha256:
        raise AfbenchError(f"source '{shard.split}' has other samples now than when the shard was made")
    rows = []
    for sample in _readable(split, ids):
        image_format = part.shards[shard.number].stored_format
        rows.append(clean_row(sample, shard.split, image_format))
    _put_back(benchmark, shard, rows, "a file of the source, or a library, is another now")


def _open_split(
    benchmark: Benchmark, shard: ShardKey, sources: Mapping[str, str | None], load: Loader
) -> Split:
    """Open the source of a split with the sample ids that the split has."""
    part = benchmark.configs[shard.config].splits[shard.split]
    seed = next((manifest.provenance["seed"] for manifest in benchmark.attacked.values()), 0)
    options = SourceOptions(authentic=shard.config == AUTHENTIC, read=ReadOptions.from_json(part.read))
    # the limit asked for is not recorded, and fewer samples may have been usable: try both
    for limit in (part.samples, None):
        if limit is None and shard.split == "synthetic":
            continue
        source = open_source(
            shard.split,
            sources.get(shard.split),
            seed=seed,
            limit=limit,
            options=options,
            layout=part.layout,
        )
        ids = (source.authentic if shard.config == AUTHENTIC else source.ids)[: part.samples]
        if ids_sha256(ids) == part.ids_sha256:
            source = replace(source, ids=ids)
            attack_at: AttackAt = "model" if part.attack_at == "model" else "native"
            if attack_at == "model":
                name, manifest = next(iter(benchmark.attacked.items()))
                source = fit_source(source, [load(name, manifest.provenance, "cpu")])
            earlier = tuple(stages_of(part)[:-1])
            return Split(source, part.shard_size, attack_at, shard.config, grown_from=earlier)
    raise AfbenchError(f"source '{shard.split}' has other samples now than when the benchmark was made")


def _readable(split: Split, ids: Sequence[str]) -> list[Sample]:
    samples = []
    for sample_id in ids:
        with suppress(BadSample):
            samples.append(split.source.read(sample_id))
    return samples


def _put_back(
    benchmark: Benchmark, shard: ShardKey, rows: Sequence[Mapping[str, Any]], explanation: str
) -> None:
    record = benchmark.configs[shard.config].splits[shard.split].shards[shard.number]
    # elsewhere first: only a file with the recorded bytes may replace the stored one
    with tempfile.TemporaryDirectory() as scratch_folder:
        new_record = write_shard(
            Path(scratch_folder), record.path, shard.config, rows, ids_sha256=record.ids_sha256, excluded=[]
        )
        if new_record.sha256 != record.sha256:
            raise AfbenchError(f"came out with other bytes than recorded, and was not stored ({explanation})")
        commit_bytes(benchmark.folder / record.path, (Path(scratch_folder) / record.path).read_bytes())
