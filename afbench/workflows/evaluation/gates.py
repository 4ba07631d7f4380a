"""Check the attacks on a defence: an evaluation must pass these gates before its adaptive figures mean anything.

F1 under an adaptive attack is an upper bound: a better attack may leave less. These gates find attacks that masked
gradients, a wrong loss or too few steps have broken; passing them proves nothing more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from afbench.core import Localizer, Sample, Setting
from afbench.defences import Purifier
from afbench.defences.defended_localizer import DefendedLocalizer
from afbench.defences.purifier import with_seed
from afbench.engine import AttackedRow, compute_precision, judge_samples, run_settings
from afbench.engine.objectives import image_loss
from afbench.images import masks_to_tensor, to_tensor
from afbench.metrics import f1
from afbench.plans import make_setting
from afbench.storage.manifests import CLEAN, shards_of
from afbench.storage.shards import read_shards
from afbench.storage.stored_pixels import stored_sample

from .evaluation_setup import EvaluationSetup

TOLERANCE = 0.02
"""Rise of a mean F1 that is accepted where too few images give no interval."""
ZERO = 0.05
"""F1 up to here counts as zero under an attack of large phi."""
SWEEP_IMAGES = 4
SWEEP_STEPS = (5, 20)
"""Iterations of PGD at 3/255."""
SWEEP_LOSSES = ("bce", "soft-f1")
"""The attacks' default, which shrinks where logits are large, and one that does not."""
SWEEP_PHI = (8, 32)
"""In 255ths; attacked with PGD of the larger number of steps."""
SLOPE_ERROR = 0.01
"""Largest relative difference between a float64 derivative and central differences."""
_DIFFERENCES = (1e-5, 1e-6, 1e-7)


@dataclass(frozen=True)
class Gate:
    """One check of one defence; ``passed`` is None if there was nothing to check. ``detail`` states the figures."""

    defence: str
    name: str
    passed: bool | None
    detail: str


def sweep_gates(
    setup: EvaluationSetup,
    *,
    images: int = SWEEP_IMAGES,
    start: Callable[[int], None] = lambda gradients: None,
    advance: Callable[[int], None] = lambda gradients: None,
) -> list[Gate]:
    """Attack the first originals through each defence with more steps and larger phi, and check its gradients.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    samples = first_samples(setup, images)
    by_steps = {loss: [_pgd("3/255", steps, loss) for steps in SWEEP_STEPS] for loss in SWEEP_LOSSES}
    by_phi = {loss: [_pgd(f"{phi}/255", SWEEP_STEPS[-1], loss) for phi in SWEEP_PHI] for loss in SWEEP_LOSSES}
    settings = [
        setting
        for by_loss in (by_steps, by_phi)
        for of_one_loss in by_loss.values()
        for setting in of_one_loss
    ]
    start(len(setup.purifiers) * len(samples) * sum(setting.steps for setting in settings))
    gates: list[Gate] = []
    for purifier in setup.purifiers:
        localizer = DefendedLocalizer(setup.localizer, purifier)
        mean_f1 = {
            setting: mean_f1_after(setup, localizer, samples, setting, advance) for setting in settings
        }
        gates.append(
            Gate(
                purifier.label,
                "more steps never help the defender",
                all(mean_f1[rows[-1]] <= mean_f1[rows[0]] + TOLERANCE for rows in by_steps.values()),
                f"pgd 3/255 through it, {' and '.join(map(str, SWEEP_STEPS))} steps, {len(samples)} images: "
                f"F1 {_by_loss(by_steps, mean_f1)}",
            )
        )
        sizes = " and ".join(f"{phi}/255" for phi in SWEEP_PHI)
        gates.append(
            Gate(
                purifier.label,
                "F1 goes to zero as phi grows",
                all(mean_f1[rows[-1]] <= ZERO for rows in by_phi.values()),
                f"pgd of {SWEEP_STEPS[-1]} steps through it at {sizes}, {len(samples)} images: "
                f"F1 {_by_loss(by_phi, mean_f1)}",
            )
        )
        gates.append(_slope(setup.localizer, purifier, samples[0], setup.device))
    return gates


def _pgd(phi: str, steps: int, loss: str) -> Setting:
    return make_setting("pgd", phi, {"steps": steps, "loss": loss}, large_phi=True)


def _by_loss(settings: Mapping[str, Sequence[Setting]], mean_f1: Mapping[Setting, float]) -> str:
    """State the figures of each loss, in the order of its settings."""
    return ", ".join(
        f"{' -> '.join(f'{mean_f1[setting]:.3f}' for setting in rows)} ({loss})"
        for loss, rows in settings.items()
    )


def first_samples(setup: EvaluationSetup, count: int) -> list[Sample]:
    rows = read_shards(
        setup.benchmark.folder,
        shards_of(setup.benchmark.configs[CLEAN]),
        ("sample_id", "image", "mask"),
    )
    return [stored_sample(setup.benchmark.folder, row) for _, row in zip(range(count), rows, strict=False)]


def mean_f1_after(
    setup: EvaluationSetup,
    localizer: Localizer,
    samples: Sequence[Sample],
    setting: Setting,
    advance: Callable[[int], None] = lambda gradients: None,
) -> float:
    """Attack a localizer, defended or not, round to 8 bits, and return its mean F1."""
    common: dict[str, Any] = {"batch_size": setup.batch_size, "device": setup.device}
    # as the evaluation itself: torch alone would round a GPU's convolutions to TF32
    with compute_precision("fp32", setup.device, deterministic=False):
        original_results = judge_samples(setup.localizer, samples, **common)
        rows = run_settings(
            localizer,
            samples,
            original_results,
            [setting],
            seed=setup.seed,
            image_format="png",
            on_gradients=advance,
            **common,
        )[setting]
    values = [f1(row.attacked_result.counts) for row in rows if isinstance(row, AttackedRow)]
    return float(np.nanmean(values)) if values else math.nan


def _slope(localizer: Localizer, purifier: Purifier, sample: Sample, device: str) -> Gate:
    """Compare the slope of each loss along its own gradient, in float64, with central differences of several sizes.

    A ReLU that switches between the two points spoils a difference, so one size that agrees is enough.
    """
    name = "gradients agree with finite differences"
    if purifier.gradient != "exact":
        kind = "BPDA" if purifier.gradient == "bpda" else "hard decisions"
        return Gate(purifier.label, name, None, f"{kind}: its gradient is a stand-in by design")
    network = getattr(localizer, "network", None)
    if not isinstance(network, torch.nn.Module) or not is_dataclass(localizer):
        return Gate(purifier.label, name, None, "the localizer shows no network that could run in float64")
    exact: Any = replace(localizer, network=copy.deepcopy(network).double())
    pipeline = DefendedLocalizer(exact, _in_float64(purifier))
    image = to_tensor([sample.image], device).double()
    # off the 8-bit grid, where neighbours are equal and a median or a clip has no derivative
    jitter = torch.rand(image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(
        device
    )
    image = (255 * image + jitter) / 256
    if not _runs_in_float64(pipeline.defence, image):
        return Gate(purifier.label, name, None, "the defence does not run in float64")
    mask = masks_to_tensor([sample.mask], device).double()

    checks = {loss: _compare_slopes(image_loss(pipeline, mask, loss), image) for loss in SWEEP_LOSSES}
    return Gate(
        purifier.label,
        name,
        all(passed for passed, _ in checks.values()),
        "; ".join(f"{loss}: {figures}" for loss, (_, figures) in checks.items()),
    )


def _compare_slopes(loss: Callable[[Tensor], Tensor], image: Tensor) -> tuple[bool, str]:
    """Return whether autograd and differences agree on the slope of a loss, and the figures."""
    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    length = float(gradient.norm())
    if not math.isfinite(length) or length == 0:
        return False, f"the gradient has length {length:g}"
    direction = gradient / length
    with torch.no_grad():
        slopes = [
            float((loss(image + h * direction) - loss(image - h * direction)).sum()) / (2 * h)
            for h in _DIFFERENCES
        ]
    nearest = min(slopes, key=lambda slope: abs(slope - length))
    error = abs(nearest - length) / length
    figures = f"{length:.6g} by autograd, {nearest:.6g} by differences ({100 * error:.2g} % apart)"
    return error <= SLOPE_ERROR, figures


def _in_float64(purifier: Purifier) -> Purifier:
    if purifier.network is None:
        return purifier
    network = copy.deepcopy(purifier.network).double()
    exact = replace(purifier, network=network, apply=network)
    return exact if purifier.random_transform is None else with_seed(exact, network, purifier.seed or 0)


def _runs_in_float64(purifier: Purifier, image: Tensor) -> bool:
    try:
        return purifier.through(image).dtype == torch.float64
    except Exception:  # a user's own code may mix it with numbers of float32
        return False
