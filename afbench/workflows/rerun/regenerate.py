"""Make one damaged shard of a benchmark again and store it if it has the recorded bytes."""

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
from afbench.engine import judge, run_settings
from afbench.engine.block import AttackedRow
from afbench.sources import SourceOptions, open_source
from afbench.storage.commit import commit_bytes
from afbench.storage.manifests import AUTHENTIC, Benchmark, ids_sha256
from afbench.storage.shards import write_shard

from ..generation.cuts import stages_of
from ..generation.model_size import fit_source
from ..generation.splits import Split
from ..generation.stored_rows import attacked_row, clean_row, hash_sample
from ..request import AttackAt
from .replay import (
    Loader,
    computing_like,
    read_launch,
    setting_of,
    stored_samples,
    what_differs,
)


class Shard(NamedTuple):
    """Where a shard belongs."""

    config: str
    split: str
    number: int


def attempt(work: Callable[[], None]) -> str:
    """Why some work could not be done, in one line; nothing if it could."""
    try:
        work()
    except AfbenchError as error:
        return str(error)
    return ""


def make_attacked(
    benchmark: Benchmark,
    shards: Mapping[str, Shard],
    run: Sequence[str],
    load: Loader,
    device: str | None,
    failed: dict[str, str],
) -> None:
    """Make shards of one launch again, by path; ``run`` are all configs of the launch. What fails is put into ``failed``.

    Raises:
        AfbenchError: if the localizer or the originals are not at hand.
    """
    config, split, number = next(iter(shards.values()))
    manifest = benchmark.attacked[config]
    provenance, part = manifest.provenance, manifest.splits[split]
    record = part.shards[number]
    launch = read_launch(benchmark.folder, config, split, number)
    launch = replace(launch, device=device or launch.device)
    localizer = load(config, provenance, launch.device)
    samples = stored_samples(benchmark, split, number)
    settings = {setting_of(name, benchmark.attacked[name].provenance): name for name in run}
    with computing_like(provenance, launch):
        before = judge(
            undefended(localizer),
            [sample.image for sample in samples],
            [sample.mask for sample in samples],
            batch_size=launch.batch_size,
            device=launch.device,
        )
        done = run_settings(
            localizer,
            samples,
            before,
            list(settings),
            seed=provenance["seed"],
            batch_size=launch.batch_size,
            device=launch.device,
            image_format=record.stored_format,
            batch_sizes=launch.launches,
        )
    hashes = {sample.sample_id: hash_sample(sample) for sample in samples}
    wanted = {shard.config: path for path, shard in shards.items()}
    for setting, results in done.items():
        name = settings[setting]
        if name in wanted:
            rows = [
                attacked_row(one, setting, localizer, manifest.localizer_name, split, hashes)
                for one in results
                if isinstance(one, AttackedRow)
            ]
            problem = attempt(
                partial(
                    _put_back, benchmark, Shard(name, split, number), rows, what_differs(part, record, launch)
                )
            )
            if problem:
                failed[wanted[name]] = problem


def make_originals(
    benchmark: Benchmark, shard: Shard, sources: Mapping[str, str | None], load: Loader
) -> None:
    """Make a shard of originals again from its source.

    Raises:
        AfbenchError: if the source is not at hand, or holds something else now.
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


def _open_split(benchmark: Benchmark, shard: Shard, sources: Mapping[str, str | None], load: Loader) -> Split:
    """The source of a split, with the ids it had."""
    part = benchmark.configs[shard.config].splits[shard.split]
    seed = next((manifest.provenance["seed"] for manifest in benchmark.attacked.values()), 0)
    options = SourceOptions(authentic=shard.config == AUTHENTIC, read=ReadOptions.from_json(part.read))
    # how many may be used may not have been how many were asked for
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
    found = []
    for sample_id in ids:
        with suppress(BadSample):
            found.append(split.source.read(sample_id))
    return found


def _put_back(benchmark: Benchmark, shard: Shard, rows: Sequence[Mapping[str, Any]], differs: str) -> None:
    record = benchmark.configs[shard.config].splits[shard.split].shards[shard.number]
    with tempfile.TemporaryDirectory() as scratch:
        made = write_shard(
            Path(scratch), record.path, shard.config, rows, ids_sha256=record.ids_sha256, excluded=[]
        )
        if made.sha256 != record.sha256:
            raise AfbenchError(f"came out with other bytes than recorded, and was not stored ({differs})")
        commit_bytes(benchmark.folder / record.path, (Path(scratch) / record.path).read_bytes())
