"""Draw a benchmark: for some samples and configs, what changed and what the localizer found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from afbench.core import ByteImage, Localizer, UsageError
from afbench.engine import judge
from afbench.images import decode_stored
from afbench.localizers import load_localizer
from afbench.report.sheet import SheetRow, contact_sheet
from afbench.report.tables import figure
from afbench.storage.manifests import Benchmark, open_benchmark, shard_paths
from afbench.storage.shards import read_rows


def preview(
    folder: Path,
    *,
    configs: Sequence[str] = (),
    split: str | None = None,
    count: int = 1,
    checkpoint: str | None = None,
) -> Image.Image:
    """Draw the first ``count`` samples of a split under each config.

    Args:
        folder: a finished benchmark.
        configs: their names; omitted, the strongest setting of every attack whose localizer can be loaded.
        split: a source id; omitted, the first one.
        count: samples to show.
        checkpoint: weights of the attacked localizer, if it is not embedded.
    Raises:
        UsageError: if the folder is no benchmark, a name is unknown, or the weights are not those attacked.
    """
    benchmark = open_benchmark(folder)
    chosen = list(configs) or [
        name for name in strongest(benchmark) if _attacked_localizer(benchmark, name, checkpoint)
    ]
    if not chosen:
        raise UsageError(
            f"none of the localizers attacked in '{folder}' has embedded weights; give --checkpoint"
        )
    splits = list(benchmark.configs["clean"]["splits"])
    split = split or splits[0]
    for name in chosen:
        if name not in benchmark.attacked:
            raise UsageError(
                f"config '{name}' is no attacked config of '{folder}'; those are: {', '.join(benchmark.attacked)}"
            )
    if split not in splits:
        raise UsageError(f"split '{split}' is not in '{folder}'; its splits: {', '.join(splits)}")
    originals = {
        row["sample_id"]: decode_stored(row["image"])
        for row, _ in zip(
            read_rows(folder, shard_paths(benchmark.configs["clean"], split)), range(count), strict=False
        )
    }
    rows = [row for name in chosen for row in _rows(benchmark, name, split, originals, checkpoint)]
    return contact_sheet(rows, f"{folder.name}: {split}, noise amplified 40 times around grey")


def strongest(benchmark: Benchmark) -> list[str]:
    """For every localizer and attack the config with the largest phi or most steps."""
    families = {
        (one["how"]["localizer"]["name"], one["how"]["attack"]): name
        for name, one in benchmark.attacked.items()
    }
    return list(families.values())  # configs come in growing strength, so the last of a family stays


def _attacked_localizer(benchmark: Benchmark, name: str, checkpoint: str | None) -> Localizer | None:
    """The localizer a config attacked, or None if these are not its weights."""
    how = benchmark.configs[name]["how"]["localizer"]
    localizer = load_localizer(how["architecture"], checkpoint or ("random" if how["untrained"] else None))
    return localizer if localizer.weights_sha256 == how["weights_sha256"] else None


def _rows(
    benchmark: Benchmark, name: str, split: str, originals: Mapping[str, ByteImage], checkpoint: str | None
) -> list[SheetRow]:
    manifest = benchmark.configs[name]
    localizer = _attacked_localizer(benchmark, name, checkpoint)
    if localizer is None:
        weights = manifest["how"]["localizer"]["weights_sha256"]
        raise UsageError(f"config {name} was made with other weights ({weights[:12]}); give --checkpoint")
    found = []
    for row in read_rows(benchmark.folder, shard_paths(manifest, split)):
        original = originals.get(row["sample_id"])
        if original is None:
            continue
        attacked, mask = decode_stored(row["image"]), decode_stored(row["mask"])
        before, after = judge(localizer, [original, attacked], [mask, mask], batch_size=2, device="cpu")
        label = [
            name,
            row["sample_id"][:32],
            f"F1 {figure(row['f1_clean'], 3)} -> {figure(row['f1_adv'], 3)}",
            f"PSNR {row['psnr']:.1f} dB" if row["psnr"] is not None else "unchanged",
            f"max {row['linf']} levels",
        ]
        found.append(SheetRow(label, original, attacked, mask, before.predicted, after.predicted))
        if len(found) == len(originals):
            break
    return found
