"""Draw a benchmark: for some samples and configs, how the image changed and what the localizer predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image

from afbench.core import ByteImage, Localizer, UsageError
from afbench.engine import judge
from afbench.reports.sheet import SheetRow, contact_sheet
from afbench.reports.tables import UNTRAINED, figure
from afbench.storage.manifests import CLEAN, Benchmark, open_benchmark
from afbench.storage.stored_pixels import stored_picture

from ..adaptive import put_behind_recorded_defence
from ..sample_choice import SampleChoice, choose_samples, read_chosen_rows
from .attacked_networks import AttackedNetwork, attacked_network, load_attacked


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
    """Draw samples of a split under each config: the named ones, or ``count`` spread over the F1 of the originals.

    Args:
        folder: a finished benchmark.
        configs: their names; omitted, the strongest setting of every attack whose localizer can be loaded.
        split: a source id; omitted, the one that has the samples, or the first one.
        samples: ids to show.
        count: samples to show if none is named.
        checkpoint: weights of the attacked localizer, if they are neither embedded nor registered.
        localizer: the user's own localizer that was attacked, ``my_package.my_module:build``. Nothing that a manifest names
            is ever imported.
    Raises:
        UsageError: if the folder is no benchmark, a name is unknown, or the weights are not those attacked.
    """
    benchmark = open_benchmark(folder)
    load = lru_cache(maxsize=1)(partial(load_attacked, checkpoint, localizer))
    shown_configs = list(configs) or [
        name for name in strongest_configs(benchmark) if _can_load(benchmark, name, load)
    ]
    if not shown_configs:
        raise UsageError(
            f"the weights of none of the localizers attacked in '{folder}' are at hand; give --checkpoint, or --localizer "
            "for your own"
        )
    for name in shown_configs:
        if name not in benchmark.attacked:
            raise UsageError(
                f"config '{name}' is no attacked config of '{folder}'; those are: {', '.join(benchmark.attacked)}"
            )
    choice = choose_samples(benchmark, shown_configs, names=samples, split=split, count=count)
    originals = {
        sample_id: stored_picture(folder, row)
        for sample_id, row in read_chosen_rows(benchmark, CLEAN, choice).items()
    }
    rows = [row for name in shown_configs for row in _rows(benchmark, name, choice, originals, load)]
    return contact_sheet(rows, f"{folder.name}: {choice.split}, noise amplified 40 times around grey")


def strongest_configs(benchmark: Benchmark) -> list[str]:
    """List for every localizer and attack the config with the largest phi or the most steps."""
    families = {
        (manifest.localizer_name, manifest.provenance["attack"]): name
        for name, manifest in benchmark.attacked.items()
    }
    return list(families.values())  # configs come in growing strength, so the last of a family stays


_Load = Callable[[AttackedNetwork], Localizer | None]


def _can_load(benchmark: Benchmark, name: str, load: _Load) -> bool:
    localizer = load(attacked_network(benchmark, name))
    return (
        localizer is not None
        and put_behind_recorded_defence(localizer, benchmark.configs[name].provenance) is not None
    )


def _rows(
    benchmark: Benchmark, name: str, choice: SampleChoice, originals: Mapping[str, ByteImage], load: _Load
) -> list[SheetRow]:
    manifest = benchmark.configs[name]
    localizer = load(attacked_network(benchmark, name))
    if localizer is None:
        weights = manifest.provenance["localizer"]["weights_sha256"]
        raise UsageError(
            f"config {name} was made with weights that are not at hand ({weights[:12]}); give --checkpoint, or --localizer "
            "for your own"
        )
    defended = put_behind_recorded_defence(localizer, manifest.provenance)
    if defended is None:
        raise UsageError(f"config {name} was attacked through a defence whose weights are not at hand")
    sheet_rows = []
    for sample_id, row in read_chosen_rows(benchmark, name, choice).items():
        original = originals[sample_id]
        image = stored_picture(benchmark.folder, row)
        mask = stored_picture(benchmark.folder, row, "mask")
        (original_result,) = judge(localizer, [original], [mask], batch_size=1, device="cpu")
        (attacked_result,) = judge(defended, [image], [mask], batch_size=1, device="cpu")
        label = [
            name + UNTRAINED * bool(manifest.provenance["localizer"]["untrained"]),
            sample_id,
            f"F1 {figure(row['f1_clean'], 3)} -> {figure(row['f1_adv'], 3)}",
            f"PSNR {row['psnr']:.1f} dB" if row["psnr"] is not None else "unchanged",
            f"max change {row['linf']}/255",
        ]
        sheet_rows.append(
            SheetRow(label, original, image, mask, original_result.predicted, attacked_result.predicted)
        )
    return sheet_rows
