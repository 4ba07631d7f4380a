"""Measure for some seconds what a gradient and a stored image cost here, so that a plan can say how long it takes."""

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
from afbench.engine import compute_precision, judge, run_settings
from afbench.engine.grid import AttackBatch, attack_batch, images_at_once
from afbench.engine.io_pool import default_threads, threads
from afbench.engine.measure import batch_size_for
from afbench.engine.meter import Meter
from afbench.images import masks_to_tensor, to_tensor
from afbench.localizers import load_localizer
from afbench.localizers.load import RANDOM
from afbench.plan import RunPlan, canonical_json, expand_attack, settings_by_group, shared_gradients
from afbench.plan.cost import Speed, Workload
from afbench.sources import open_source

KEEPING = 0.2
"""Part of the time spent on what is done once for each stored image."""
MOST_KEPT = 16
"""Images such a measurement takes at once."""


def calibrate(
    plan: RunPlan,
    loads: Sequence[Workload],
    *,
    device: str = "cpu",
    precision: str = "fp32",
    seconds: float = 30.0,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Speed]:
    """Time short attacks on every localizer of a plan, on its commonest size of image; writes nothing.

    Where a single gradient takes longer than its part of the time, the measurement does too.

    Args:
        plan: what is asked for.
        loads: what is left of it (``outlook.open_loads``).
        device: where to compute.
        precision: of the localizer's arithmetic.
        seconds: to spend in all, about.
        say: told what is measured, and on which weights.
    Returns:
        The speeds by localizer.
    Raises:
        UsageError: if the device or a user's own localizer cannot be used.
    """
    work: dict[str, list[Workload]] = {}
    for load in loads:
        if load.settings:
            work.setdefault(load.localizer, []).append(load)
    found = {}
    for name, own in work.items():
        load = max(own, key=lambda one: (one.images or 1) * (one.gradients_shared + 1))
        settings = [one for block in plan.blocks if name in block.localizers for one in block.settings]
        found[name] = _speed(load, settings, device, precision, seconds / len(work), say)
    return found


def _speed(
    load: Workload,
    settings: Sequence[Setting],
    device: str,
    precision: str,
    seconds: float,
    say: Callable[[str], None],
) -> Speed:
    started = time.perf_counter()
    localizer = _load(load.localizer, device, say)
    loaded = time.perf_counter() - started
    side = isqrt(load.pixels)
    say(f"measuring {load.localizer} on {side}x{side} images, {device}, {precision}, about {seconds:.0f} s")
    with compute_precision(precision, device):
        score, keep = _stored_image(localizer, load, side, device, seconds * KEEPING)
        each, count = _gradient(localizer, load, settings, side, device, seconds * (1 - KEEPING))
    untrained = bool(getattr(localizer, "untrained", False))
    return Speed(load.localizer, side * side, each, score, keep, loaded, count, untrained)


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
    load: Workload,
    settings: Sequence[Setting],
    side: int,
    device: str,
    seconds: float,
) -> tuple[float, int]:
    """Seconds of one image gradient, over the sharing groups as the plan mixes them; and how many were timed."""
    groups = [group for group in settings_by_group(settings).values() if shared_gradients(group)]
    if not groups:
        return 0.0, 0
    samples = _samples(side, min(load.images or 64, batch_size_for(localizer, (side, side), device, None)))
    launch = batch_size_for(localizer, (side, side), device, None)

    def probe(group: Sequence[Setting], *, most: int | None = None) -> tuple[float, int]:
        short = _shortened(group)[:most]
        meter = Meter()
        chosen = samples[: images_at_once(short, launch)]
        batch = AttackBatch(
            [sample.sample_id for sample in chosen],
            to_tensor([sample.image for sample in chosen], device),
            masks_to_tensor([sample.mask for sample in chosen], device),
        )
        took = _timed(
            lambda: list(attack_batch(localizer, batch, short, seed=0, batch_size=launch, meter=meter)),
            device,
        )
        return took, meter.gradients

    until = time.perf_counter() + seconds
    took, count = probe(groups[0], most=1)  # the first of all warms up
    if took > seconds / 4:  # a heavy network: a second one is all there is time for
        again, number = probe(groups[0], most=1)
        return min(took / count, again / number), number
    rates: list[list[float]] = [[] for _ in groups]
    timed = 0
    for number, group in cycle(enumerate(groups)):
        took, count = probe(group)
        rates[number].append(took / count)
        timed += count
        if all(rates) and time.perf_counter() > until:
            break
    weights = [shared_gradients(group) for group in groups]
    mixed = sum(weight * median(own) for weight, own in zip(weights, rates, strict=True))
    return mixed / sum(weights), timed


def _shortened(settings: Sequence[Setting]) -> list[Setting]:
    """The same attacks with few gradients; of C&W's steps, which share one run, two are one."""
    found = {}
    for one in settings:
        params = {**one.params, **({"neighbours": 1} if "neighbours" in one.params else {})}
        short = replace(one, steps=min(one.steps, 2), params=params)
        found[one.attack, one.phi, short.steps, canonical_json(params)] = short
    return list(found.values())


def _stored_image(
    localizer: Localizer, load: Workload, side: int, device: str, seconds: float
) -> tuple[float, float]:
    """Seconds to score one image, and to quantise, encode, decode and compare one."""
    samples = _samples(side, min(load.images or MOST_KEPT, MOST_KEPT))
    noise = expand_attack("noise")[:1]

    def look() -> list[object]:
        return [*judge(localizer, images, masks, batch_size=None, device=device)]

    images, masks = [sample.image for sample in samples], [sample.mask for sample in samples]
    started = time.perf_counter()
    before = judge(localizer, images[:1], masks[:1], batch_size=None, device=device)  # warms up
    if time.perf_counter() - started > seconds / (2 * len(samples)):
        samples, images, masks = samples[:1], images[:1], masks[:1]
    score = _timed(look, device)
    with threads(default_threads()) as submit:  # as a run has them
        both = _timed(
            lambda: run_settings(
                localizer,
                samples,
                before * len(samples),
                noise,
                seed=0,
                batch_size=None,
                device=device,
                image_format="webp",
                submit=submit,
            ),
            device,
        )
    return score / len(samples), max(0.0, both - score) / len(samples)


def _samples(side: int, number: int) -> list[Sample]:
    """Demo forgeries, repeated to a size: they encode as photographs do."""
    source = open_source("demo", None)
    found = []
    for sample_id in source.ids[:number]:
        sample = source.read(sample_id)
        times = ceil(side / sample.image.shape[0]), ceil(side / sample.image.shape[1])
        image = np.tile(sample.image, (*times, 1))[:side, :side]
        found.append(replace(sample, image=image, mask=np.tile(sample.mask, times)[:side, :side]))
    return found


def _timed(work: Callable[[], object], device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
