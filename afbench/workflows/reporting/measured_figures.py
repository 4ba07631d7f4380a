"""Run localizers for the figures that need them: features in two dimensions, and masks of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from afbench.core import ByteImage, Localizer, UsageError
from afbench.defences import ANSM, Purifier, load_defence
from afbench.defences.purifier import require_owner
from afbench.engine import compute_precision, localize
from afbench.images import to_tensor
from afbench.metrics import FloatArray, count_pixels, f1
from afbench.reports.drawing import Drawing
from afbench.reports.feature_figure import FeatureRow, feature_drawing
from afbench.reports.mask_figure import FoundMask, MaskRow, mask_drawing
from afbench.reports.report_page import ReportGap
from afbench.safe_convolutions import safe_convolutions
from afbench.scoring.score_tables import CONTROLS
from afbench.storage.manifests import CLEAN, Benchmark
from afbench.storage.stored_pixels import stored_picture

from ..adaptive import oblivious_configs
from ..sample_choice import SampleChoice, choose_samples, read_chosen_rows
from .attacked_networks import attacked_network, load_attacked
from .measure_options import EXAMPLES, MeasureOptions


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One localizer on one source: the strongest config of each attack, and the images whose features and masks are drawn."""

    benchmark: Benchmark
    name: str
    network: Localizer
    device: str
    purifiers: Sequence[Purifier]
    configs: Mapping[str, str]
    for_features: SampleChoice
    for_masks: SampleChoice
    has_features: bool = field(default=True)

    @property
    def passes(self) -> int:
        """Count the images that go through the localizer."""
        attacked = len(self.configs) * (1 + len(self.purifiers))
        feature_images = len(self.for_features.ids) if self.has_features else 0
        return (feature_images + len(self.for_masks.ids)) * (1 + attacked)


def open_measurements(
    benchmarks: Sequence[Benchmark], options: MeasureOptions
) -> tuple[list[Measurement], list[ReportGap]]:
    """Load localizers and defences, and choose images; say of which localizers the weights are not at hand.

    Raises:
        UsageError: if a named defence, checkpoint or localizer is wrong.
    """
    measurements, missing = [], []
    for benchmark in benchmarks:
        for name in dict.fromkeys(manifest.localizer_name for manifest in benchmark.attacked.values()):
            configs = {
                benchmark.configs[config].provenance["attack"]: config
                for config in oblivious_configs(benchmark, name)
            }
            configs = {attack: config for attack, config in configs.items() if attack not in CONTROLS}
            if not configs:
                continue
            attacked = attacked_network(benchmark, next(iter(configs.values())))
            network = load_attacked(options.checkpoint, options.localizer, attacked, device=options.device)
            if network is None:
                missing.append(
                    ReportGap(
                        f"Features and masks of {name}",
                        f"Its weights ({attacked.weights_sha256[:12]}) are not at hand; give --checkpoint, or --localizer for your own.",
                    )
                )
                continue
            if not hasattr(network, "features"):
                missing.append(ReportGap(f"Features of {name}", "This localizer gives out no features."))
            purifiers = _purifiers(network, attacked.architecture, options)
            for source in benchmark.configs[CLEAN].splits:
                shown = {
                    attack: config
                    for attack, config in configs.items()
                    if source in benchmark.configs[config].splits
                }
                if shown:
                    measurements.append(
                        Measurement(
                            benchmark=benchmark,
                            name=name,
                            network=network,
                            device=options.device,
                            purifiers=purifiers,
                            configs=shown,
                            for_features=_choose(benchmark, shown, source, options.images),
                            for_masks=_choose(benchmark, shown, source, EXAMPLES),
                            has_features=hasattr(network, "features"),
                        )
                    )
    return measurements, missing


def _choose(benchmark: Benchmark, configs: Mapping[str, str], source: str, count: int) -> SampleChoice:
    return choose_samples(benchmark, list(configs.values()), split=source, count=count)


def _purifiers(network: Localizer, architecture: str, options: MeasureOptions) -> list[Purifier]:
    purifiers = {}
    for text in (ANSM,) if options.defences is None else options.defences:
        try:
            purifier = load_defence(text, localizer=architecture, device=options.device)
            require_owner(purifier, network)
        except UsageError:
            # nobody asked for what ships for some localizers only
            if options.defences is None:
                continue
            raise
        purifiers[purifier.label] = purifier
    return list(purifiers.values())


def measured_drawings(
    measurement: Measurement, *, advance: Callable[[int], None] = lambda images: None
) -> Iterator[Drawing]:
    """Run the localizer on the chosen images and yield their figures.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    source = measurement.for_masks.split
    if measurement.has_features:
        rows, vectors = [], []
        for row, vector in _features(measurement):
            rows.append(row)
            vectors.append(vector)
            advance(1)
        yield feature_drawing(measurement.name, source, rows, np.stack(vectors))
    mask_rows = list(_mask_rows(measurement, advance))
    terms = measurement.benchmark.configs[CLEAN].splits[source].terms or ""
    yield mask_drawing(measurement.name, source, mask_rows, terms)


def _features(measurement: Measurement) -> Iterator[tuple[FeatureRow, FloatArray]]:
    for sample_id, image in _pictures(measurement, CLEAN, measurement.for_features).items():
        yield FeatureRow(sample_id, "", "", ""), _vector(measurement, image, None)
    for attack, config in measurement.configs.items():
        for sample_id, image in _pictures(measurement, config, measurement.for_features).items():
            for purifier in (None, *measurement.purifiers):
                label = "" if purifier is None else purifier.label
                yield FeatureRow(sample_id, config, attack, label), _vector(measurement, image, purifier)


def _vector(measurement: Measurement, image: ByteImage, purifier: Purifier | None) -> FloatArray:
    """Average each of the localizer's middle feature maps over its pixels."""
    with (
        torch.no_grad(),
        compute_precision("fp32", measurement.device, deterministic=False),
        safe_convolutions(measurement.network, purifier),
    ):
        batch = to_tensor([image], measurement.device)
        maps = measurement.network.features(batch if purifier is None else purifier.apply(batch))  # type: ignore[attr-defined]
        # maps of tokens or channels: whatever follows the channel is averaged
        means = [level[0].float().flatten(1).mean(dim=1) for level in maps]
        return torch.cat(means).double().cpu().numpy()


def _mask_rows(measurement: Measurement, advance: Callable[[int], None]) -> Iterator[MaskRow]:
    choice, folder = measurement.for_masks, measurement.benchmark.folder
    originals = {
        sample_id: (stored_picture(folder, row), stored_picture(folder, row, "mask"))
        for sample_id, row in read_chosen_rows(measurement.benchmark, CLEAN, choice).items()
    }
    found_in_originals = {}
    for sample_id, (original, truth) in originals.items():
        found_in_originals[sample_id] = _find(measurement, original, truth, None)
        advance(1)
    attacked = {config: _pictures(measurement, config, choice) for config in measurement.configs.values()}
    for sample_id, (original, truth) in originals.items():
        for attack, config in measurement.configs.items():
            if sample_id not in attacked[config]:
                continue
            image, found = attacked[config][sample_id], {}
            for purifier in (None, *measurement.purifiers):
                label = "none" if purifier is None else purifier.label
                found[label] = _find(measurement, image, truth, purifier)
                advance(1)
            yield MaskRow(
                sample_id, config, attack, original, image, truth, found_in_originals[sample_id], found
            )


def _find(
    measurement: Measurement, image: ByteImage, truth: ByteImage, purifier: Purifier | None
) -> FoundMask:
    defence = (lambda batch: batch) if purifier is None else purifier.apply
    ((_, probability, _),) = localize(
        measurement.network, [image], defence=defence, batch_size=1, device=measurement.device
    )
    is_forged = probability > measurement.network.threshold
    value = f1(count_pixels(is_forged, truth > 127))
    return FoundMask(
        np.where(is_forged, np.uint8(255), np.uint8(0)), None if np.isnan(value) else float(value)
    )


def _pictures(measurement: Measurement, config: str, choice: SampleChoice) -> dict[str, ByteImage]:
    rows = read_chosen_rows(measurement.benchmark, config, choice)
    return {sample_id: stored_picture(measurement.benchmark.folder, row) for sample_id, row in rows.items()}
