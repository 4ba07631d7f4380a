"""Originals, their attacked copies, and what is found in both without and behind defences, as the ANSM paper's Fig. 7."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from afbench.core import ByteImage
from afbench.defences import Purifier
from afbench.engine import localize
from afbench.images import decode_stored
from afbench.metrics import count_pixels, f1
from afbench.report.sheet import draw_sheet
from afbench.report.tables import figure
from afbench.scoring.tables import CONTROLS
from afbench.storage.manifests import CLEAN, shard_paths
from afbench.storage.shards import read_rows

from .adaptive import adaptive_configs, require_oblivious
from .evaluate import Opened


def evaluation_figure(opened: Opened, *, images: int = 2) -> Image.Image:
    """Draw the first originals under the strongest setting of every attack, and those that went through a defence.

    The masks of the originals are the bare localizer's. An attack through a defence leaves the columns of other defences
    empty: it was not made for them.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    benchmark = opened.benchmark
    split = next(iter(benchmark.configs[CLEAN]["splits"]))
    originals = _first(opened, CLEAN, split, images)
    defences = [one for one in opened.purifiers if one.name != "none"]
    chosen: list[tuple[str, Sequence[Purifier]]] = [
        (name, opened.purifiers) for name in _strongest(opened, require_oblivious(benchmark, opened.name))
    ]
    for one in defences:
        names = adaptive_configs(benchmark, opened.name, one)
        chosen += [(name, [one]) for name in _strongest(opened, names)]
    rows = []
    for sample_id, (original, mask) in originals.items():
        for config, shown in chosen:
            attacked = _first(opened, config, split, images).get(sample_id)
            if attacked is None:
                continue
            before = _found(opened, opened.purifiers[0], original)
            after = {one.label: _found(opened, one, attacked[0]) for one in shown}
            told = [f"{label[:22]} {_score(found, mask)}" for label, found in after.items()]
            empty = np.full_like(mask, 200)
            rows.append(
                (
                    [config, sample_id[:32], f"F1 original {_score(before, mask)}", *told],
                    [
                        original,
                        attacked[0],
                        mask,
                        before,
                        *(after.get(one.label, empty) for one in opened.purifiers),
                    ],
                )
            )
    columns = ["original", "attacked", "mask", "found in original", "found in attacked"]
    columns += [one.label[:22] for one in defences]
    return draw_sheet(columns, rows, f"{benchmark.folder.name}: {split}, localizer {opened.name}")


def _strongest(opened: Opened, configs: Sequence[str]) -> list[str]:
    """The last config of every attack: they come in growing strength. Random noise is no attack."""
    last = {opened.benchmark.configs[one]["how"]["attack"]: one for one in configs}
    return [config for attack, config in last.items() if attack not in CONTROLS]


def _first(opened: Opened, config: str, split: str, count: int) -> dict[str, tuple[ByteImage, ByteImage]]:
    manifest = opened.benchmark.configs[config]
    if split not in manifest["splits"]:
        return {}
    rows = read_rows(opened.benchmark.folder, shard_paths(manifest, split), ("sample_id", "image", "mask"))
    # an excluded sample shifts the others: look a little further than asked
    few = [row for _, row in zip(range(4 * count if config != CLEAN else count), rows, strict=False)]
    return {row["sample_id"]: (decode_stored(row["image"]), decode_stored(row["mask"])) for row in few}


def _found(opened: Opened, purifier: Purifier, image: ByteImage) -> ByteImage:
    ((_, probability),) = localize(
        opened.localizer, [image], defence=purifier.apply, batch_size=1, device=opened.device
    )
    return np.where(probability > opened.localizer.threshold, np.uint8(255), np.uint8(0))


def _score(found: ByteImage, mask: ByteImage) -> str:
    value = f1(count_pixels(found > 127, mask > 127))
    return figure(None if np.isnan(value) else value, 3)
