"""Draw a benchmark: for some samples and configs, what changed and what the localizer found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from afbench.core import ByteImage, Localizer, UsageError
from afbench.engine import judge
from afbench.images import decode_stored
from afbench.localizers import known_localizers, load_localizer
from afbench.report.sheet import SheetRow, contact_sheet
from afbench.report.tables import UNTRAINED, figure
from afbench.storage.manifests import CLEAN, Benchmark, open_benchmark

from ..adaptive import put_behind_recorded_defence
from ..sample_choice import Shown, choose_samples, rows_of


def preview(
    folder: Path,
    *,
    configs: Sequence[str] = (),
    split: str | None = None,
    samples: Sequence[str] = (),
    count: int = 1,
    checkpoint: str | None = None,
    localizer: str | None = None,
) -> Image.Image:
    """Draw samples of a split under each config: those named, or ``count`` spread over the F1 of the originals.

    Args:
        folder: a finished benchmark.
        configs: their names; omitted, the strongest setting of every attack whose localizer can be loaded.
        split: a source id; omitted, the one that has the samples, or the first one.
        samples: ids to show.
        count: samples to show where none is named.
        checkpoint: weights of the attacked localizer, if they are neither embedded nor registered.
        localizer: the user's own that was attacked, ``my_package.my_module:build``; a benchmark's manifests are never
            asked what to import.
    Raises:
        UsageError: if the folder is no benchmark, a name is unknown, or the weights are not those attacked.
    """
    benchmark = open_benchmark(folder)
    load = lru_cache(maxsize=1)(partial(_load, checkpoint, localizer))
    chosen = list(configs) or [name for name in strongest(benchmark) if _at_hand(benchmark, name, load)]
    if not chosen:
        raise UsageError(
            f"the weights of none of the localizers attacked in '{folder}' are at hand; give --checkpoint, or --localizer "
            "for your own"
        )
    for name in chosen:
        if name not in benchmark.attacked:
            raise UsageError(
                f"config '{name}' is no attacked config of '{folder}'; those are: {', '.join(benchmark.attacked)}"
            )
    shown = choose_samples(benchmark, chosen, names=samples, split=split, count=count)
    originals = {
        sample_id: decode_stored(row["image"]) for sample_id, row in rows_of(benchmark, CLEAN, shown).items()
    }
    rows = [row for name in chosen for row in _rows(benchmark, name, shown, originals, load)]
    return contact_sheet(rows, f"{folder.name}: {shown.split}, noise amplified 40 times around grey")


def strongest(benchmark: Benchmark) -> list[str]:
    """For every localizer and attack the config with the largest phi or most steps."""
    families = {
        (one.localizer_name, one.provenance["attack"]): name for name, one in benchmark.attacked.items()
    }
    return list(families.values())  # configs come in growing strength, so the last of a family stays


class _Attacked(NamedTuple):
    """What a manifest says of the localizer a config attacked."""

    architecture: str
    weights_sha256: str
    untrained: bool


_Load = Callable[[_Attacked], Localizer | None]


def _at_hand(benchmark: Benchmark, name: str, load: _Load) -> bool:
    localizer = load(_attacked(benchmark, name))
    return (
        localizer is not None
        and put_behind_recorded_defence(localizer, benchmark.configs[name].provenance) is not None
    )


def _attacked(benchmark: Benchmark, name: str) -> _Attacked:
    attacked = benchmark.configs[name].provenance["localizer"]
    return _Attacked(attacked["architecture"], attacked["weights_sha256"], attacked["untrained"])


def _load(checkpoint: str | None, own: str | None, attacked: _Attacked) -> Localizer | None:
    """The localizer that was attacked, or None if its weights are not at hand."""
    if own is None and attacked.architecture not in known_localizers():
        return None
    if checkpoint is None and own is None and attacked.untrained:
        checkpoint = "random"
    try:
        localizer = load_localizer(own or attacked.architecture, checkpoint)
    except UsageError:
        if checkpoint or own:
            raise
        return None
    return localizer if localizer.weights_sha256 == attacked.weights_sha256 else None


def _rows(
    benchmark: Benchmark, name: str, shown: Shown, originals: Mapping[str, ByteImage], load: _Load
) -> list[SheetRow]:
    manifest = benchmark.configs[name]
    localizer = load(_attacked(benchmark, name))
    if localizer is None:
        weights = manifest.provenance["localizer"]["weights_sha256"]
        raise UsageError(
            f"config {name} was made with weights that are not at hand ({weights[:12]}); give --checkpoint, or --localizer "
            "for your own"
        )
    attacked_one = put_behind_recorded_defence(localizer, manifest.provenance)
    if attacked_one is None:
        raise UsageError(f"config {name} was attacked through a defence whose weights are not at hand")
    found = []
    for sample_id, row in rows_of(benchmark, name, shown).items():
        original = originals[sample_id]
        attacked, mask = decode_stored(row["image"]), decode_stored(row["mask"])
        (before,) = judge(localizer, [original], [mask], batch_size=1, device="cpu")
        (after,) = judge(attacked_one, [attacked], [mask], batch_size=1, device="cpu")
        label = [
            name + UNTRAINED * bool(manifest.provenance["localizer"]["untrained"]),
            sample_id,
            f"F1 {figure(row['f1_clean'], 3)} -> {figure(row['f1_adv'], 3)}",
            f"PSNR {row['psnr']:.1f} dB" if row["psnr"] is not None else "unchanged",
            f"max {row['linf']} levels",
        ]
        found.append(SheetRow(label, original, attacked, mask, before.predicted, after.predicted))
    return found
