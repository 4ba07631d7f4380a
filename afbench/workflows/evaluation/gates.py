"""What an evaluation of a defence must pass before its adaptive figures mean anything.

A figure against an attack that knows the defence is an upper bound of what is left, and worth as much as the attack. These
gates find attacks that are broken by masked gradients, a wrong loss or too few steps; passing them proves nothing more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from afbench.core import Localizer, Sample
from afbench.defences import Purifier
from afbench.defences.defended_localizer import DefendedLocalizer
from afbench.engine import AttackedRow, judge, run_settings
from afbench.images import decode_stored, masks_to_tensor, to_tensor
from afbench.losses import binary_cross_entropy
from afbench.metrics import f1
from afbench.plan import make_setting
from afbench.scoring.score_tables import CONTROLS, ranking_rows
from afbench.scoring.statistics import difference_interval
from afbench.storage.manifests import CLEAN, shard_paths
from afbench.storage.shards import read_rows

from .evaluate import ADAPTIVE, Evaluation, Opened, Side

MARGIN = 0.005
"""F1 that the low end of an interval may lie above zero: C&W gives back that much as it shrinks its noise."""
TOLERANCE = 0.02
"""Of a mean F1 over too few images for an interval."""
ZERO = 0.05
"""F1 that counts as zero under an attack of large phi."""
SWEEP_IMAGES = 4
SWEEP_STEPS = (5, 20)
"""Iterations of PGD at 3/255."""
SWEEP_PHI = (8, 32)
"""255ths, under PGD of the most steps."""
SLOPE_ERROR = 0.01
"""Of a derivative in float64, relative, against central differences."""
_DIFFERENCES = (1e-5, 1e-6, 1e-7)


@dataclass(frozen=True)
class Gate:
    """One check of one defence; ``passed`` is None where there was nothing to check. ``detail`` tells the figures."""

    defence: str
    name: str
    passed: bool | None
    detail: str


def gates_of_benchmark(evaluation: Evaluation) -> list[Gate]:
    """What the benchmark's own configs can tell: adaptive against oblivious, and more steps against fewer."""
    sides = {(side.defence, side.knowledge): side for side in evaluation.sides}
    found: list[Gate] = []
    for (defence, knowledge), side in sides.items():
        through = sides.get((defence, ADAPTIVE))
        if knowledge != ADAPTIVE and defence != "none":
            found += _never_weaker(side, through)
        # a transferred attack may lose by more steps, for it sharpens itself on the wrong network
        if knowledge == ADAPTIVE or defence == "none":
            found += _more_steps(side)
    return found


def _never_weaker(oblivious: Side, adaptive: Side | None) -> Iterator[Gate]:
    """An attack that knows the defence leaves no more F1 than the same one that does not."""
    name, keys = "adaptive is never weaker", ["attack", "phi", "steps"]
    if adaptive is None:
        yield Gate(
            oblivious.defence, name, None, "no attack went through it: its oblivious figures say little"
        )
        return
    pairs = _by_setting(oblivious).merge(_by_setting(adaptive), on=[*keys, "source", "sample_id"])
    if pairs.empty:
        yield Gate(oblivious.defence, name, None, "no attack of the same setting on both sides")
    for (attack, phi, steps), mine in pairs.groupby(keys):
        passed, told = _not_above(mine, "f1_y", "f1_x")
        what = f"{_named(attack, phi)} {steps} steps"
        yield Gate(oblivious.defence, name, passed, f"{what}: {told}")


def _more_steps(side: Side) -> Iterator[Gate]:
    table = _by_setting(side)
    for (attack, phi), mine in table.groupby(["attack", "phi"]):
        counts = sorted(mine["steps"].unique())
        for fewer, more in pairwise(counts):
            pair = mine[mine["steps"] == fewer].merge(mine[mine["steps"] == more], on=["source", "sample_id"])
            if len(pair):
                passed, told = _not_above(pair, "f1_y", "f1_x")
                yield Gate(
                    side.defence,
                    "more steps never help the defender",
                    passed,
                    f"{_named(attack, phi)}, {fewer} to {more} steps: {told}",
                )


def _named(attack: Any, phi: Any) -> str:
    return f"{attack} {255 * phi:g}/255" if phi else str(attack)


def _by_setting(side: Side) -> pd.DataFrame:
    """Mean F1 per image and setting of attacks; other parameters of one setting are averaged."""
    rows = ranking_rows(side.per_image)
    rows = rows[~rows["attack"].isin(CONTROLS)].assign(phi=lambda table: table["phi"].fillna(0.0))
    keys = ["attack", "phi", "steps", "source", "sample_id"]
    return rows.groupby(keys)["f1"].mean().reset_index()


def _not_above(pairs: pd.DataFrame, now: str, before: str) -> tuple[bool, str]:
    """Whether a mean F1 is not above another of the same images: the paired interval reaches ``MARGIN`` or below."""
    ends = difference_interval(
        pairs[now], pairs[before], pairs["source"].tolist(), pairs["sample_id"].tolist()
    )
    gap = float((pairs[now] - pairs[before]).mean())
    told = f"F1 {pairs[before].mean():.3f} -> {pairs[now].mean():.3f}"
    if ends is None:
        return gap <= TOLERANCE, f"{told}, {gap:+.3f} on {len(pairs)} image"
    return ends.low <= MARGIN, f"{told}, {gap:+.3f} [{ends.low:+.3f}, {ends.high:+.3f}]"


def sweep_gates(
    opened: Opened,
    *,
    images: int = SWEEP_IMAGES,
    start: Callable[[int], None] = lambda gradients: None,
    advance: Callable[[int], None] = lambda gradients: None,
) -> list[Gate]:
    """Attack the first originals through each defence with more steps and larger phi, and check its gradients.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    samples = _first(opened, images)
    settings = [
        *(make_setting("pgd", "3/255", {"steps": steps}) for steps in SWEEP_STEPS),
        *(make_setting("pgd", f"{phi}/255", {"steps": SWEEP_STEPS[-1]}, large_phi=True) for phi in SWEEP_PHI),
    ]
    start(len(opened.purifiers) * len(samples) * sum(setting.steps for setting in settings))
    found: list[Gate] = []
    for purifier in opened.purifiers:
        localizer = DefendedLocalizer(opened.localizer, purifier)
        left = [_left(opened, localizer, samples, setting, advance) for setting in settings]
        steps, phi = left[: len(SWEEP_STEPS)], left[len(SWEEP_STEPS) :]
        told = " -> ".join(f"{one:.3f}" for one in steps)
        found.append(
            Gate(
                purifier.label,
                "more steps never help the defender",
                steps[-1] <= steps[0] + TOLERANCE,
                f"pgd 3/255 through it, {' and '.join(map(str, SWEEP_STEPS))} steps, {len(samples)} images: F1 {told}",
            )
        )
        told = ", ".join(f"{one:.3f} at {size}/255" for one, size in zip(phi, SWEEP_PHI, strict=True))
        found.append(
            Gate(
                purifier.label,
                "F1 goes to zero as phi grows",
                phi[-1] <= ZERO,
                f"pgd of {SWEEP_STEPS[-1]} steps through it, {len(samples)} images: F1 {told}",
            )
        )
        found.append(_slope(opened.localizer, purifier, samples[0], opened.device))
    return found


def _first(opened: Opened, count: int) -> list[Sample]:
    rows = read_rows(
        opened.benchmark.folder,
        shard_paths(opened.benchmark.configs[CLEAN]),
        ("sample_id", "image", "mask"),
    )
    return [
        Sample(row["sample_id"], decode_stored(row["image"]), decode_stored(row["mask"]))
        for _, row in zip(range(count), rows, strict=False)
    ]


def _left(
    opened: Opened,
    localizer: Localizer,
    samples: Sequence[Sample],
    setting: Any,
    advance: Callable[[int], None],
) -> float:
    """Mean F1 behind the defence after an attack through it, rounded to 8 bits."""
    common: dict[str, Any] = {"batch_size": opened.batch_size, "device": opened.device}
    before = judge(opened.localizer, [one.image for one in samples], [one.mask for one in samples], **common)
    rows = run_settings(
        localizer,
        samples,
        before,
        [setting],
        seed=opened.seed,
        image_format="png",
        on_gradients=advance,
        **common,
    )[setting]
    values = [f1(row.attacked_result.counts) for row in rows if isinstance(row, AttackedRow)]
    return float(np.nanmean(values)) if values else math.nan


def _slope(localizer: Localizer, purifier: Purifier, sample: Sample, device: str) -> Gate:
    """The loss along its own gradient, in float64: autograd against central differences of several sizes, the best of them.

    A ReLU that switches between the two points spoils a difference, so one that agrees is enough.
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
    mask = masks_to_tensor([sample.mask], device).double()

    def loss(at: Tensor) -> Tensor:
        return binary_cross_entropy(pipeline.logits(at), mask).sum()

    leaf = image.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    length = float(gradient.norm())
    if not math.isfinite(length) or length == 0:
        return Gate(purifier.label, name, False, f"the gradient has length {length:g}")
    along = gradient / length
    with torch.no_grad():
        found = [float(loss(image + h * along) - loss(image - h * along)) / (2 * h) for h in _DIFFERENCES]
    nearest = min(found, key=lambda one: abs(one - length))
    error = abs(nearest - length) / length
    return Gate(
        purifier.label,
        name,
        error <= SLOPE_ERROR,
        f"{length:.6g} by autograd, {nearest:.6g} by differences ({100 * error:.2g} % apart)",
    )


def _in_float64(purifier: Purifier) -> Purifier:
    if purifier.network is None:
        return purifier
    network = copy.deepcopy(purifier.network).double()
    return replace(purifier, network=network, apply=network)
