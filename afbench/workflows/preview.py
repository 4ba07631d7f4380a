"""Draw a benchmark: for some samples and configs, what changed and what the localizer found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from afbench.core import ByteImage, UsageError
from afbench.engine import judge
from afbench.images import decode_stored
from afbench.localizers import load_localizer
from afbench.metrics import f1
from afbench.report.sheet import SheetRow, contact_sheet
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
        configs: their names; omitted, the strongest setting of every attack.
        split: a source id; omitted, the first one.
        count: samples to show.
        checkpoint: weights of the attacked localizer, if it is not embedded.
    Raises:
        UsageError: if the folder is no benchmark, a name is unknown, or the weights are not those attacked.
    """
    benchmark = open_benchmark(folder)
    chosen = list(configs) or strongest(benchmark)
    splits = list(benchmark.configs["clean"]["splits"])
    split = split or splits[0]
    for name in chosen:
        if name not in benchmark.attacked:
            raise UsageError(
                f"config '{name}' is not in '{folder}'; its configs: {', '.join(benchmark.attacked)}"
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


def _rows(
    benchmark: Benchmark, name: str, split: str, originals: Mapping[str, ByteImage], checkpoint: str | None
) -> list[SheetRow]:
    manifest = benchmark.configs[name]
    how = manifest["how"]["localizer"]
    localizer = load_localizer(how["architecture"], checkpoint)
    if localizer.weights_sha256 != how["weights_sha256"]:
        raise UsageError(
            f"config {name} was made with other weights ({how['weights_sha256'][:12]}); give --checkpoint"
        )
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
            f"F1 {f1(before.counts):.3f} -> {f1(after.counts):.3f}",
            f"PSNR {row['psnr']:.1f} dB" if row["psnr"] is not None else "unchanged",
            f"max {row['linf']} levels",
        ]
        found.append(SheetRow(label, original, attacked, mask, before.predicted, after.predicted))
        if len(found) == len(originals):
            break
    return found
