"""Attack a localizer whose logits are multiplied: an attack's RP must not move, for no decision does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from afbench.core import Localizer, Setting
from afbench.defences.defended_localizer import LOCALIZER_TRAITS
from afbench.engine import compute_precision, judge_samples
from afbench.metrics import f1
from afbench.plans import ATTACKS, make_setting, shared_gradients
from afbench.plans.headline import STRONG
from afbench.scoring.score_tables import CONTROLS
from afbench.work_progress import WorkPiece

from ..adaptive import require_oblivious
from .evaluation_setup import EvaluationSetup
from .gates import SWEEP_IMAGES, Gate, first_samples, mean_f1_after

FACTORS = (0.5, 1.0, 4.0)
"""On the logits, counted from the threshold."""
LARGEST_MOVE = 2.0
"""Points of RP between the smallest and the largest over ``FACTORS``."""
_NAME = "the size of logits does not matter"


@dataclass(frozen=True)
class ScaledLocalizer:
    """A localizer whose logits are ``factor`` times as far from its threshold; it makes the same decisions."""

    inner: Localizer
    factor: float

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def threshold(self) -> float:
        return self.inner.threshold

    @property
    def weights_sha256(self) -> str:
        return self.inner.weights_sha256

    def logits(self, image: Tensor) -> Tensor:
        """Return ``(N, 1, H, W)``; the threshold stays where it is."""
        threshold = float(getattr(self.inner, "logit_threshold", self.inner.threshold))
        cut = math.log(threshold / (1 - threshold))
        return cut + self.factor * (self.inner.logits(image) - cut)

    def probability(self, image: Tensor) -> Tensor:
        """Return ``(N, 1, H, W)`` of the localizer itself, so that every figure is of the same decisions."""
        return self.inner.probability(image)

    def __getattr__(self, name: str) -> Any:
        if name in LOCALIZER_TRAITS or name == "kib_per_pixel":
            return getattr(self.inner, name)
        raise AttributeError(name)


def scale_gates(
    setup: EvaluationSetup,
    *,
    images: int = SWEEP_IMAGES,
    start: Callable[[int], None] = lambda gradients: None,
    advance: Callable[[int], None] = lambda gradients: None,
) -> list[Gate]:
    """Attack the first originals with every attack of the benchmark, at each of ``FACTORS``.

    ``strong`` must not move, for its figure is read as robustness. Of other attacks that is no fault: where their RP moves,
    ``passed`` is None and ``scale_warnings`` names them.

    Raises:
        AfbenchError: if the benchmark is damaged.
    """
    samples = first_samples(setup, images)
    with compute_precision("fp32", setup.device, deterministic=False):
        judged = judge_samples(setup.localizer, samples, batch_size=setup.batch_size, device=setup.device)
    scores = [f1(result.counts) for result in judged]
    f1_original = float(np.nanmean(scores)) if not all(map(math.isnan, scores)) else math.nan
    settings = _settings(setup)
    gradients = {label: len(samples) * shared_gradients([setting]) for label, setting in settings.items()}
    start(len(FACTORS) * sum(gradients.values()))
    gates = []
    for label, setting in settings.items():
        figures = []
        for factor in FACTORS:
            localizer = ScaledLocalizer(setup.localizer, factor)
            piece = WorkPiece(lambda amount: advance(int(amount)), gradients[label])
            mean_f1 = mean_f1_after(setup, localizer, samples, setting, piece.add)
            piece.finish()
            figures.append(100 * mean_f1 / (f1_original or math.nan))
        gates.append(_gate(label, setting.attack, figures, len(samples)))
    return gates


def _gate(label: str, attack: str, figures: list[float], images: int) -> Gate:
    move = max(figures) - min(figures)
    is_steady = move <= LARGEST_MOVE
    passed = is_steady if attack == STRONG or is_steady else None
    table = ", ".join(f"{rp:.1f} at x {factor:g}" for rp, factor in zip(figures, FACTORS, strict=True))
    return Gate("none", _NAME, passed, f"{label}, {images} images: RP {table} (moves by {move:.1f} points)")


def scale_warnings(gates: list[Gate]) -> list[str]:
    """Name the attacks whose RP moves with the size of logits."""
    return [
        f"{gate.detail.partition(',')[0]}: its RP moves by more than {LARGEST_MOVE:g} points with a factor on the logits, which "
        f"changes no decision; it says little of robustness: add --attack {STRONG}"
        for gate in gates
        if gate.name == _NAME and not gate.passed
    ]


def _settings(setup: EvaluationSetup) -> dict[str, Setting]:
    """Take of each attack and its parameters the smallest phi or the fewest steps, where RP moves most, by config."""
    weakest: dict[tuple[str, str], tuple[float, str, Setting]] = {}
    for name in require_oblivious(setup.benchmark, setup.name):
        provenance = setup.benchmark.configs[name].provenance
        # an attack of the maker's own is not at hand
        if provenance["attack"] not in CONTROLS and provenance["attack"] in ATTACKS:
            setting = _setting(provenance)
            size = float(setting.steps if setting.phi is None else setting.phi)
            key = setting.attack, repr(sorted(setting.params.items()))
            weakest[key] = min(weakest.get(key, (math.inf, name, setting)), (size, name, setting))
    return {name: setting for _, name, setting in weakest.values()}


def _setting(provenance: Mapping[str, Any]) -> Setting:
    """Build the setting of a config anew."""
    attack, phi = provenance["attack"], provenance["phi"]
    fixed = ATTACKS[attack].fixed
    params = {key: value for key, value in provenance["params"].items() if key not in fixed}
    return make_setting(attack, provenance["steps"] if phi is None else phi, params, large_phi=True)
