"""Draw originals, their attacked copies, and the masks predicted for both, bare and behind defences (ANSM paper, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from afbench.core import ByteImage
from afbench.defences import Purifier
from afbench.engine import localize
from afbench.metrics import count_pixels, f1
from afbench.reports.sheet import draw_sheet
from afbench.reports.tables import figure
from afbench.scoring.score_tables import CONTROLS
from afbench.storage.manifests import CLEAN
from afbench.storage.stored_pixels import stored_picture

from ..adaptive import adaptive_configs, require_oblivious
from ..sample_choice import choose_samples, read_chosen_rows
from .evaluation_setup import EvaluationSetup


def evaluation_figure(setup: EvaluationSetup, *, samples: Sequence[str] = (), images: int = 5) -> Image.Image:
    """Draw one row per sample and attack: the strongest setting of every oblivious attack, then of every adaptive one.

    The samples are the named ones, or ``images`` of them spread over the F1 of the originals. The masks of the originals
    are the bare localizer's. An adaptive attack was made for one defence: the columns of the others stay empty.

    Raises:
        UsageError: if the benchmark doesn't have a sample.
        AfbenchError: if the benchmark is damaged.
    """
    benchmark = setup.benchmark
    defences = [purifier for purifier in setup.purifiers if purifier.name != "none"]
    configs_to_show: list[tuple[str, Sequence[Purifier]]] = [
        (name, setup.purifiers) for name in _strongest(setup, require_oblivious(benchmark, setup.name))
    ]
    for purifier in defences:
        names = adaptive_configs(benchmark, setup.name, purifier)
        configs_to_show += [(name, [purifier]) for name in _strongest(setup, names)]
    choice = choose_samples(benchmark, [config for config, _ in configs_to_show], names=samples, count=images)
    pictures = {
        config: read_chosen_rows(benchmark, config, choice)
        for config in (CLEAN, *(name for name, _ in configs_to_show))
    }
    rows = []
    for sample_id, row in pictures[CLEAN].items():
        original, mask = stored_picture(benchmark.folder, row), stored_picture(benchmark.folder, row, "mask")
        for config, purifiers in configs_to_show:
            if sample_id not in pictures[config]:
                continue
            attacked = stored_picture(benchmark.folder, pictures[config][sample_id])
            original_prediction = _predict_mask(setup, setup.purifiers[0], original)
            predictions = {purifier.label: _predict_mask(setup, purifier, attacked) for purifier in purifiers}
            scores = [f"{label} {_score(prediction, mask)}" for label, prediction in predictions.items()]
            # light grey, which no mask has: not predicted, rather than nothing found
            empty = np.full_like(mask, 200)
            rows.append(
                (
                    [config, sample_id, f"F1 original {_score(original_prediction, mask)}", *scores],
                    [
                        original,
                        attacked,
                        mask,
                        original_prediction,
                        *(predictions.get(purifier.label, empty) for purifier in setup.purifiers),
                    ],
                )
            )
    columns = ["original", "attacked", "mask", "found in original", "found in attacked"]
    columns += [purifier.label for purifier in defences]
    return draw_sheet(columns, rows, f"{benchmark.folder.name}: {choice.split}, localizer {setup.name}")


def _strongest(setup: EvaluationSetup, configs: Sequence[str]) -> list[str]:
    """Return the last config of every attack, for configs come in growing strength. Random noise is no attack."""
    last = {setup.benchmark.configs[config].provenance["attack"]: config for config in configs}
    return [config for attack, config in last.items() if attack not in CONTROLS]


def _predict_mask(setup: EvaluationSetup, purifier: Purifier, image: ByteImage) -> ByteImage:
    ((_, probability, _),) = localize(
        setup.localizer, [image], defence=purifier.apply, batch_size=1, device=setup.device
    )
    return np.where(probability > setup.localizer.threshold, np.uint8(255), np.uint8(0))


def _score(prediction: ByteImage, mask: ByteImage) -> str:
    value = f1(count_pixels(prediction > 127, mask > 127))
    return figure(None if np.isnan(value) else value, 3)
