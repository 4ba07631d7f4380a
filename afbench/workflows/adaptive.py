"""The attack that knows the defence: to it, localizer and defence are one network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from afbench.core import Localizer, UsageError
from afbench.defences import ANSM, NRP, Purifier, load_defence
from afbench.defences.purifier import require_owner
from afbench.images import resize
from afbench.storage.manifests import Benchmark

from .request import config_localizer

_OF_THE_LOCALIZER = frozenset(
    {"resolution", "logit", "logit_threshold", "untrained", "side", "resize", "fit"}
)
"""What may be asked of a localizer beyond its protocol, and is the same behind a defence."""


@dataclass(frozen=True)
class DefendedLocalizer:
    """A localizer behind a defence, with gradients: exact ones, or those the defence stands in for (BPDA).

    Of a random defence ``logits`` are the mean of the localizer's logits over its fixed draws (EOT), while
    ``probability``, which is scored, is behind the draw that every evaluation makes: the attack knows the defence's
    distribution, not its dice. The mean is of logits, not of losses, so that any loss can be put on it.

    Differs: Athalye et al. 2018, arXiv 1802.00420, draw anew in every step and average the loss; fixed draws make an attack
    a function of its seed, whatever the batch.
    """

    inner: Localizer
    defence: Purifier

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def threshold(self) -> float:
        return self.inner.threshold

    @property
    def weights_sha256(self) -> str:
        return self.inner.weights_sha256

    @property
    def kib_per_pixel(self) -> float:
        """Memory of one gradient: every draw keeps its own pass, and a trained defence is about as large again."""
        passes = self.defence.draws + (self.defence.network is not None)
        return passes * float(getattr(self.inner, "kib_per_pixel", 4.0))

    def logits(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 1, H, W)``, what an attack differentiates."""
        size = image.shape[-2:]  # the defence may bring images to the localizer's size
        if self.defence.deterministic:
            return resize(self.inner.logits(self.defence.through(image)), size)
        drawn = [self.inner.logits(self.defence.through(image, draw)) for draw in range(self.defence.draws)]
        return resize(torch.stack(drawn).mean(dim=0), size)

    def probability(self, image: Tensor) -> Tensor:
        """``(N, 3, H, W)`` to ``(N, 1, H, W)`` in [0, 1], of the purified image."""
        return resize(self.inner.probability(self.defence.apply(image)), image.shape[-2:])

    def probability_and_logits(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Both; in one pass where nothing is drawn and the localizer offers it."""
        both = getattr(self.inner, "probability_and_logits", None)
        if both is None or not self.defence.deterministic:
            return self.probability(image), self.logits(image)
        probability, logits = both(self.defence.apply(image))
        return resize(probability, image.shape[-2:]), resize(logits, image.shape[-2:])

    def __getattr__(self, name: str) -> Any:
        if name in _OF_THE_LOCALIZER:
            return getattr(self.inner, name)
        raise AttributeError(name)


def undefended(localizer: Localizer) -> Localizer:
    """The localizer without its defence, if it stands behind one."""
    return localizer.inner if isinstance(localizer, DefendedLocalizer) else localizer


def defence_of(localizer: Localizer) -> Purifier | None:
    """What a localizer stands behind, if anything."""
    return localizer.defence if isinstance(localizer, DefendedLocalizer) else None


def behind(localizer: Localizer, name: str, text: str | None, *, device: str, seed: int) -> Localizer:
    """A localizer of the given name behind the defence of ``--through-defence``; as it is where there is none.

    Raises:
        UsageError: if the defence cannot be used, or is none.
    """
    if text is None:
        return localizer
    defence = load_defence(text, localizer=config_localizer(name), device=device, seed=seed)
    if defence.name == "none":
        raise UsageError("--through-defence none is an attack on the bare localizer; leave the option out")
    require_owner(defence, localizer)
    return DefendedLocalizer(localizer, defence)


def called(name: str, localizer: Localizer) -> str:
    """What configs call a localizer that they call ``name`` without its defence."""
    defence = defence_of(localizer)
    return name if defence is None else defended_name(name, defence)


def defended_name(localizer: str, defence: Purifier) -> str:
    """What configs call a localizer behind a defence: ``reference`` and ``jpeg-75`` are ``reference_jpeg_75``."""
    return f"{localizer}_{config_localizer(defence.label)}"


def as_recorded(localizer: Localizer, how: Mapping[str, Any], *, device: str = "cpu") -> Localizer | None:
    """What a config attacked: the localizer, behind the defence its manifest records; None if that is not at hand.

    A manifest names a defence and its setting, never a file: of trained ones only what ships is tried.
    """
    told = how.get("defence")
    if told is None:
        return localizer
    architecture = how["localizer"]["architecture"]
    try:
        # the params of what was trained are no setting, and a manifest could make them a path
        setting = [] if told["name"] in (ANSM, NRP) else list(told["params"].values())
        text = ":".join(map(str, [told["name"], *setting]))
        defence = load_defence(text, localizer=architecture, device=device, seed=int(told["seed"] or 0))
    except (UsageError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return DefendedLocalizer(localizer, defence) if _same(told, defence.describe()) else None


def oblivious_configs(benchmark: Benchmark, localizer: str) -> list[str]:
    """Configs whose attacks met the bare localizer that the benchmark calls so."""
    return [
        name
        for name, manifest in benchmark.attacked.items()
        if manifest.localizer_name == localizer and "defence" not in manifest.provenance
    ]


def require_oblivious(benchmark: Benchmark, localizer: str) -> list[str]:
    """The same, of which there must be one.

    Raises:
        UsageError: with the localizers there are.
    """
    found = oblivious_configs(benchmark, localizer)
    if not found:
        names = sorted({_shown(manifest.provenance["localizer"]) for manifest in benchmark.attacked.values()})
        raise UsageError(
            f"'{benchmark.folder}' has no config of localizer '{localizer}'; its localizers: {', '.join(names) or 'none'}"
        )
    return found


def adaptive_configs(benchmark: Benchmark, localizer: str, defence: Purifier) -> list[str]:
    """Configs whose attacks went through this very defence: same name, setting, weights.

    How an attack looked through it (gradients, draws) and the seed of what is random may differ.
    """
    wanted = defence.describe()
    return [
        name
        for name, manifest in benchmark.attacked.items()
        if manifest.localizer_name == defended_name(localizer, defence)
        and _same(manifest.provenance.get("defence"), wanted)
    ]


def _shown(localizer: Mapping[str, Any]) -> str:
    """A label, and the network where that has another name and so needs ``--localizer-name``."""
    label, architecture = str(localizer["name"]), str(localizer.get("architecture", localizer["name"]))
    return label if label == architecture else f"{label} (network {architecture}: --localizer-name {label})"


def _same(told: Any, wanted: Mapping[str, Any]) -> bool:
    return isinstance(told, Mapping) and all(
        told.get(key) == wanted[key] for key in ("name", "params", "weights_sha256")
    )
