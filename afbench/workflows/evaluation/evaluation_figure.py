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
from afbench.scoring.score_tables import CONTROLS
from afbench.storage.manifests import CLEAN

from ..adaptive import adaptive_configs, require_oblivious
from ..sample_choice import choose_samples, read_chosen_rows
from .evaluate import Opened


def evaluation_figure(opened: Opened, *, samples: Sequence[str] = (), images: int = 2) -> Image.Image:
    """Draw originals under the strongest setting of every attack, and those that went through a defence.

    Shown are the samples that are named, else ``images`` that are spread over the F1 of the originals.

    The masks of the originals are the bare localizer's. An attack through a defence leaves the columns of other defences
    empty: it was not made for them.

    Raises:
        UsageError: if a sample is not there.
        AfbenchError: if the benchmark is damaged.
    """
    benchmark = opened.benchmark
    defences = [one for one in opened.purifiers if one.name != "none"]
    chosen: list[tuple[str, Sequence[Purifier]]] = [
        (name, opened.purifiers) for name in _strongest(opened, require_oblivious(benchmark, opened.name))
    ]
    for one in defences:
        names = adaptive_configs(benchmark, opened.name, one)
        chosen += [(name, [one]) for name in _strongest(opened, names)]
    shown = choose_samples(benchmark, [config for config, _ in chosen], names=samples, count=images)
    pictures = {
        config: read_chosen_rows(benchmark, config, shown)
        for config in (CLEAN, *(name for name, _ in chosen))
    }
    rows = []
    for sample_id, row in pictures[CLEAN].items():
        original, mask = decode_stored(row["image"]), decode_stored(row["mask"])
        for config, purifiers in chosen:
            if sample_id not in pictures[config]:
                continue
            attacked = decode_stored(pictures[config][sample_id]["image"])
            before = _found(opened, opened.purifiers[0], original)
            after = {one.label: _found(opened, one, attacked) for one in purifiers}
            told = [f"{label} {_score(found, mask)}" for label, found in after.items()]
            empty = np.full_like(mask, 200)
            rows.append(
                (
                    [config, sample_id, f"F1 original {_score(before, mask)}", *told],
                    [
                        original,
                        attacked,
                        mask,
                        before,
                        *(after.get(one.label, empty) for one in opened.purifiers),
                    ],
                )
            )
    columns = ["original", "attacked", "mask", "found in original", "found in attacked"]
    columns += [one.label for one in defences]
    return draw_sheet(columns, rows, f"{benchmark.folder.name}: {shown.split}, localizer {opened.name}")


def _strongest(opened: Opened, configs: Sequence[str]) -> list[str]:
    """The last config of every attack: they come in growing strength. Random noise is no attack."""
    last = {opened.benchmark.configs[one].provenance["attack"]: one for one in configs}
    return [config for attack, config in last.items() if attack not in CONTROLS]


def _found(opened: Opened, purifier: Purifier, image: ByteImage) -> ByteImage:
    ((_, probability),) = localize(
        opened.localizer, [image], defence=purifier.apply, batch_size=1, device=opened.device
    )
    return np.where(probability > opened.localizer.threshold, np.uint8(255), np.uint8(0))


def _score(found: ByteImage, mask: ByteImage) -> str:
    value = f1(count_pixels(found > 127, mask > 127))
    return figure(None if np.isnan(value) else value, 3)
