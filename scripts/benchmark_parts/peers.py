"""(a) One attack at a time against other libraries: same network, images, steps, step sizes and radius."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from statistics import mean, median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from afbench.core import Localizer, Sample, Setting
from afbench.engine.grid import AttackBatch
from afbench.losses import binary_cross_entropy
from afbench.plans import expand_attack

from .clock import Clock, Paired, any_kernels, middle, paired
from .pictures import a_localizer, as_batch, attack, f1_after, pictures
from .table import Table, verdict

STRENGTH = 0.02
"""F1 within which two attacks are called equally strong."""
DRAWS = {"pgd": 4}
"""Random starts of which strength is the mean: one would not tell."""
ATTACKS = ("fgsm", "bim", "pgd", "mifgsm")
HEAD = (
    "attack",
    "library",
    "ms per gradient",
    "afbench",
    "times slower",
    "F1 theirs",
    "F1 afbench",
    "target",
)


class TwoClasses(nn.Module):
    """Logits ``z`` as ``[0, z]``, the form in which libraries for classification are right on masks."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.network = localizer.network  # type: ignore[attr-defined]
        self.localizer = localizer

    def forward(self, image: Tensor) -> Tensor:
        z = self.localizer.logits(image)
        return torch.cat([torch.zeros_like(z), z], 1)


def with_torchattacks(localizer: Localizer, batch: AttackBatch, setting: Setting) -> Callable[[], Tensor]:
    """Prepare the attack of torchattacks, ready to run."""
    library = importlib.import_module("torchattacks")
    model, eps, steps = TwoClasses(localizer).eval(), float(setting.phi or 0), setting.steps
    labels = batch.mask[:, 0].long()
    builders: dict[str, Callable[[], Any]] = {
        "fgsm": lambda: library.FGSM(model, eps=eps),
        "bim": lambda: library.BIM(model, eps=eps, alpha=eps / 4, steps=steps),
        "pgd": lambda: library.PGD(model, eps=eps, alpha=eps / 4, steps=steps, random_start=True),
        "mifgsm": lambda: library.MIFGSM(model, eps=eps, alpha=eps / steps, steps=steps, decay=1.0),
    }
    peer_attack = builders[setting.attack]()
    return lambda: peer_attack(batch.image, labels)  # type: ignore[no-any-return]


def with_foolbox(localizer: Localizer, batch: AttackBatch, setting: Setting) -> Callable[[], Tensor]:
    """Prepare the attack of foolbox; its loss takes labels ``(N,)``, so it is replaced, as foolbox lets users do."""
    library = importlib.import_module("foolbox")
    peer_attacks = library.attacks
    eps, steps = float(setting.phi or 0), setting.steps
    builders: dict[str, Callable[[], Any]] = {
        "fgsm": peer_attacks.LinfFastGradientAttack,
        "bim": lambda: peer_attacks.LinfBasicIterativeAttack(
            abs_stepsize=eps / 4, steps=steps, random_start=False
        ),
        "pgd": lambda: peer_attacks.LinfPGD(abs_stepsize=eps / 4, steps=steps),
        "mifgsm": lambda: peer_attacks.MIFGSM(
            momentum=1.0, abs_stepsize=eps / steps, steps=steps, random_start=False
        ),
    }
    model = library.PyTorchModel(TwoClasses(localizer).eval(), bounds=(0, 1), device=batch.image.device)
    peer_attack = builders[setting.attack]()

    def loss(images: Any) -> Any:
        return type(images)(binary_cross_entropy(localizer.logits(images.raw), batch.mask).sum())

    peer_attack.get_loss_fn = lambda model, labels: loss
    labels = torch.zeros(len(batch.image), dtype=torch.int64, device=batch.image.device)
    criterion = library.criteria.Misclassification(labels)
    return lambda: peer_attack.run(model, batch.image, criterion, epsilon=eps)  # type: ignore[no-any-return]


PEERS = {"torchattacks": with_torchattacks, "foolbox": with_foolbox}


def table(
    *,
    images: int,
    judged_images: int,
    side: int,
    steps: int,
    repeats: int,
    clock: Clock,
    peers: tuple[str, ...] = tuple(PEERS),
) -> Table:
    """Measure every attack against every library; a library that is absent or fails gets a line that says so.

    Timed on ``images``, the strength compared on ``judged``.
    """
    localizer, samples = a_localizer("reference", clock.device), pictures(judged_images, side)
    batch = as_batch(samples[:images], clock.device)
    rows = []
    for name in ATTACKS:
        params = {} if name == "fgsm" else {"steps": steps}
        setting = expand_attack(name, phi=["2/255"], params=params)[0]
        for peer in peers:
            try:
                peer_run = any_kernels()(PEERS[peer](localizer, batch, setting))
                peer_run()
            except Exception as error:  # whatever another library does is a line of the table
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:60]
                rows.append([name, peer, f"does not run: {reason}", *[""] * (len(HEAD) - 3)])
                continue
            times = paired(
                partial(attack, localizer, batch, [setting], images), peer_run, clock=clock, repeats=repeats
            )
            rows.append(_row(localizer, samples, setting, peer, times, images, clock.device))
    note = (
        f"{images} images of {side}x{side} on `reference` as one batch, phi 2/255, {steps} steps, the same step sizes; medians of "
        f"{repeats} interleaved runs with 5 to 95 %; F1 on {judged_images} 8-bit images, of PGD the mean of {DRAWS['pgd']} random starts. Target: not slower than torchattacks 3.5.1 "
        "(even: 1 lies within the spread)."
    )
    return Table("Each attack beside other libraries", HEAD, rows, note)


def _row(
    localizer: Localizer,
    samples: list[Sample],
    setting: Setting,
    peer: str,
    times: Paired,
    images: int,
    device: str,
) -> list[str]:
    milliseconds = 1000 / (setting.steps * images)
    batch = as_batch(samples, device)
    peer_run = any_kernels()(PEERS[peer](localizer, batch, setting))
    scores = []
    for seed in range(DRAWS.get(setting.attack, 1)):
        torch.manual_seed(seed)
        attacked = peer_run(), attack(localizer, batch, [setting], len(samples), seed)[0]
        scores.append([f1_after(localizer, samples, batch, output, setting) for output in attacked])
    f1_peer, f1_afbench = map(mean, zip(*scores, strict=True))
    target = ""
    if peer == "torchattacks":
        target = _not_slower(times.ratios) if abs(f1_peer - f1_afbench) <= STRENGTH else "not equally strong"
    return [
        setting.attack,
        peer,
        middle([seconds * milliseconds for seconds in times.peer]),
        middle([seconds * milliseconds for seconds in times.afbench]),
        middle(times.ratios),
        f"{f1_peer:.3f}",
        f"{f1_afbench:.3f}",
        target,
    ]


def _not_slower(ratios: list[float]) -> str:
    """Judge "missed" only if afbench is slower in nearly every pair: the network takes almost all the time on both sides."""
    if median(ratios) >= 1:
        return verdict(True)
    return "even" if quantiles([*ratios, *ratios], n=20, method="inclusive")[-1] >= 1 else verdict(False)
