"""Measure for some seconds what a gradient and a stored image cost on this machine, so that a plan can forecast hours."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import cycle
from math import ceil, isqrt
from statistics import median

import numpy as np
import torch

from afbench.core import Localizer, Sample, Setting, UsageError
from afbench.engine import compute_precision, judge_samples, run_settings
from afbench.engine.grid import AttackBatch, attack_batch, images_at_once
from afbench.engine.io_pool import default_threads, threads
from afbench.engine.measure import batch_size_for
from afbench.engine.meter import Meter
from afbench.images import masks_to_tensor, to_tensor
from afbench.localizers import load_localizer
from afbench.localizers.untrained import RANDOM
from afbench.plans import RunPlan, canonical_json, expand_attack, settings_by_group, shared_gradients
from afbench.plans.cost import Speed, Workload
from afbench.sources import open_source

STORAGE_SHARE = 0.2
"""Share of the time that measures what is done once per stored image; the rest measures gradients."""
MAX_STORED_IMAGES = 16
"""Images in one measurement of storage."""


def calibrate(
    plan: RunPlan,
    workloads: Sequence[Workload],
    *,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 30.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Speed]:
    """Time short attacks on every localizer of a plan, at the image size that most of its work has; write nothing.

    If a single gradient takes longer than its share of the time, the measurement takes longer too.

    Args:
        plan: the plan to measure for.
        workloads: the work that remains (``forecast.remaining_workloads``).
        device: where to compute.
        precision: of the localizer's arithmetic.
        seconds: about how long to measure in total.
        say: called with a line for each localizer, and when its weights are random.
    Returns:
        The speeds by localizer.
    Raises:
        UsageError: if the device or a user's own localizer cannot be used.
    """
    by_localizer: dict[str, list[Workload]] = {}
    for workload in workloads:
        if workload.settings:
            by_localizer.setdefault(workload.localizer, []).append(workload)
    speeds = {}
    for name, localizer_workloads in by_localizer.items():
        workload = max(localizer_workloads, key=lambda item: (item.images or 1) * (item.gradients_shared + 1))
        settings = [
            setting for block in plan.blocks if name in block.localizers for setting in block.settings
        ]
        speeds[name] = _speed(workload, settings, device, precision, seconds / len(by_localizer), say)
    return speeds


def _speed(
    workload: Workload,
    settings: Sequence[Setting],
    device: str,
    precision: str,
    seconds: float,
    say: Callable[[str], None],
) -> Speed:
    start = time.perf_counter()
    localizer = _load(workload.localizer, device, say)
    start_seconds = time.perf_counter() - start
    side = isqrt(workload.pixels)
    say(
        f"measuring {workload.localizer} on {side}x{side} images, {device}, {precision}, about {seconds:.0f} s"
    )
    with compute_precision(precision, device):
        score_seconds, keep_seconds = _stored_image(
            localizer, workload, side, device, seconds * STORAGE_SHARE
        )
        gradient_seconds, gradients = _gradient(
            localizer, workload, settings, side, device, seconds * (1 - STORAGE_SHARE)
        )
    untrained = bool(getattr(localizer, "untrained", False))
    return Speed(
        workload.localizer,
        side * side,
        gradient_seconds,
        score_seconds,
        keep_seconds,
        start_seconds,
        gradients,
        untrained,
    )


def _load(name: str, device: str, say: Callable[[str], None]) -> Localizer:
    with suppress(UsageError):
        return load_localizer(name, device=device)
    if ":" in name:
        return load_localizer(name, device=device)
    localizer = load_localizer(name, RANDOM, device=device)
    say(f"no weights of {name} here: measuring with random ones, which cost the same")
    return localizer


def _gradient(
    localizer: Localizer,
    workload: Workload,
    settings: Sequence[Setting],
    side: int,
    device: str,
    seconds: float,
) -> tuple[float, int]:
    """Time image gradients; return the seconds of one and how many were timed.

    The sharing groups of a plan have gradients of different cost: they are weighted as the plan mixes them.
    """
    groups = [group for group in settings_by_group(settings).values() if shared_gradients(group)]
    if not groups:
        return 0.0, 0
    samples = _samples(
        side, min(workload.images or 64, batch_size_for(localizer, (side, side), device, None))
    )
    batch_size = batch_size_for(localizer, (side, side), device, None)

    def probe(group: Sequence[Setting], *, max_settings: int | None = None) -> tuple[float, int]:
        short_settings = _shortened(group)[:max_settings]
        meter = Meter()
        batch_samples = samples[: images_at_once(short_settings, batch_size)]
        batch = AttackBatch(
            [sample.sample_id for sample in batch_samples],
            to_tensor([sample.image for sample in batch_samples], device),
            masks_to_tensor([sample.mask for sample in batch_samples], device),
        )
        seconds_taken = _timed(
            lambda: list(
                attack_batch(localizer, batch, short_settings, seed=0, batch_size=batch_size, meter=meter)
            ),
            device,
        )
        return seconds_taken, meter.gradients

    deadline = time.perf_counter() + seconds
    seconds_taken, count = probe(groups[0], max_settings=1)  # the first call warms up
    if seconds_taken > seconds / 4:  # a heavy network: there is time for only one more
        second_seconds, number = probe(groups[0], max_settings=1)
        return min(seconds_taken / count, second_seconds / number), number
    rates: list[list[float]] = [[] for _ in groups]
    gradients = 0
    for number, group in cycle(enumerate(groups)):
        seconds_taken, count = probe(group)
        rates[number].append(seconds_taken / count)
        gradients += count
        if all(rates) and time.perf_counter() > deadline:
            break
    weights = [shared_gradients(group) for group in groups]
    total = sum(weight * median(group_rates) for weight, group_rates in zip(weights, rates, strict=True))
    return total / sum(weights), gradients


def _shortened(settings: Sequence[Setting]) -> list[Setting]:
    """Shorten attacks to few gradients; C&W settings that differ in steps share one run and become one setting."""
    shortened = {}
    for setting in settings:
        params = {**setting.params, **({"neighbours": 1} if "neighbours" in setting.params else {})}
        short_setting = replace(setting, steps=min(setting.steps, 2), params=params)
        shortened[setting.attack, setting.phi, short_setting.steps, canonical_json(params)] = short_setting
    return list(shortened.values())


def _stored_image(
    localizer: Localizer, workload: Workload, side: int, device: str, seconds: float
) -> tuple[float, float]:
    """Time the scoring of one image, and its way into storage: quantise, encode, decode, compare."""
    samples = _samples(side, min(workload.images or MAX_STORED_IMAGES, MAX_STORED_IMAGES))
    # noise takes no gradient, so its time is that of scoring and storing
    noise = expand_attack("noise")[:1]

    def look() -> list[object]:
        return [*judge_samples(localizer, samples, batch_size=None, device=device)]

    start = time.perf_counter()
    original_results = judge_samples(localizer, samples[:1], batch_size=None, device=device)  # warms up
    if time.perf_counter() - start > seconds / (2 * len(samples)):
        samples = samples[:1]
    score_seconds = _timed(look, device)
    with threads(default_threads()) as submit:  # a run encodes and decodes in threads as well
        attack_seconds = _timed(
            lambda: run_settings(
                localizer,
                samples,
                # what the results say does not matter, only that there is one for each sample
                original_results * len(samples),
                noise,
                seed=0,
                batch_size=None,
                device=device,
                image_format="webp",
                submit=submit,
            ),
            device,
        )
    # two measurements: their difference may come out below zero
    return score_seconds / len(samples), max(0.0, attack_seconds - score_seconds) / len(samples)


def _samples(side: int, count: int) -> list[Sample]:
    """Tile demo forgeries to a size: they are photographs, so they encode like a user's images."""
    source = open_source("demo", None)
    samples = []
    for sample_id in source.ids[:count]:
        sample = source.read(sample_id)
        repeats = ceil(side / sample.image.shape[0]), ceil(side / sample.image.shape[1])
        image = np.tile(sample.image, (*repeats, 1))[:side, :side]
        samples.append(replace(sample, image=image, mask=np.tile(sample.mask, repeats)[:side, :side]))
    return samples


def _timed(action: Callable[[], object], device: str) -> float:
    # a GPU works on after a call has returned: wait for it before and after
    _wait(device)
    start = time.perf_counter()
    action()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
