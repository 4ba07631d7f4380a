"""What a step of training costs: the ANSM of the paper, with EfficientNet-B4."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import torch
from benchmark_parts.clock import Clock
from benchmark_parts.pictures import a_localizer, as_batch, pictures

from afbench.defences.ansm.module import Ansm
from afbench.defences.ansm.presets import preset
from afbench.defences.ansm.settings import Settings
from afbench.defences.ansm.stage_loss import stage_loss
from afbench.defences.training.pairs import Batch
from afbench.engine.memory import fits
from afbench.safe_convolutions import full_precision

from .report import Report, Scale


def ansm_steps(report: Report, scale: Scale) -> None:
    """Measure steps per second and memory of both stages of the paper's preset."""
    name, side, batch = ("reference", 64, 1) if scale.tiny else ("mvss", 512, 8)
    settings = replace(preset("paper", name), encoder_weights="none")
    if scale.tiny:
        settings = replace(settings, encoder="small")
    report.heading(
        f"ANSM with {settings.encoder}",
        f"Steps per second of Algorithm 1 for `{name}` (random weights, frozen), {batch} pairs of {side}x{side}, fp32, encoder without pretrained weights, no data loading; medians of 5 after a warm-up.",
    )
    localizer = a_localizer(name, scale.device)
    images = as_batch(pictures(batch, side), scale.device)
    noise = torch.rand_like(images.image).sub(0.5).mul(6 / 255)
    pairs = Batch(images.image, (images.image + noise).clamp(0, 1), images.mask)

    def rows() -> Iterator[Sequence[str]]:
        for stage in settings.stages:
            seconds: list[float] = []
            fitted = fits(
                lambda stage=stage, seconds=seconds: _measure(
                    stage.loss, localizer, pairs, settings, seconds, scale
                )
            )  # type: ignore[misc]
            peak = torch.cuda.max_memory_allocated(scale.device) / 2**30 if scale.on_gpu else float("nan")
            rate = f"{1 / median(seconds[1:]):.3g}" if fitted else "out of memory"
            yield [stage.loss, rate, f"{peak:.2f}"]

    report.table(["stage", "steps/s", "peak GiB"], rows())


def _measure(
    loss: str, localizer: object, pairs: Batch, settings: Settings, seconds: list[float], scale: Scale
) -> None:
    torch.manual_seed(0)
    if scale.on_gpu:
        torch.cuda.reset_peak_memory_stats(scale.device)
    network = Ansm(settings.encoder, settings.encoder_weights)
    network.to(device=scale.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(stage_loss(loss, network, localizer, pairs, settings).mean())  # type: ignore[arg-type]
        optimiser.step()

    with full_precision(network, localizer):
        seconds.extend(Clock(scale.device)(step) for _ in range(2 if scale.tiny else 6))
