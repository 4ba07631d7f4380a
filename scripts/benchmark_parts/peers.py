"""(a) One attack at a time against other libraries: same network, images, steps, step sizes and radius."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor, nn

from afbench.core import Localizer, Sample, Setting
from afbench.engine.grid import Batch
from afbench.losses import binary_cross_entropy
from afbench.plan import expand_attack

from .clock import Clock, middle, paired
from .pictures import a_localizer, as_batch, attack, f1_after, pictures
from .table import Table, verdict

STRENGTH = 0.02
"""F1 within which two attacks are called equally strong."""
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


def with_torchattacks(localizer: Localizer, batch: Batch, setting: Setting) -> Callable[[], Tensor]:
    """The attack of torchattacks, ready to run."""
    library = importlib.import_module("torchattacks")
    model, eps, steps = TwoClasses(localizer).eval(), float(setting.phi or 0), setting.steps
    labels = batch.mask[:, 0].long()
    theirs: dict[str, Callable[[], Any]] = {
        "fgsm": lambda: library.FGSM(model, eps=eps),
        "bim": lambda: library.BIM(model, eps=eps, alpha=eps / 4, steps=steps),
        "pgd": lambda: library.PGD(model, eps=eps, alpha=eps / 4, steps=steps, random_start=True),
        "mifgsm": lambda: library.MIFGSM(model, eps=eps, alpha=eps / steps, steps=steps, decay=1.0),
    }
    made = theirs[setting.attack]()
    return lambda: made(batch.image, labels)  # type: ignore[no-any-return]


def with_foolbox(localizer: Localizer, batch: Batch, setting: Setting) -> Callable[[], Tensor]:
    """The attack of foolbox, which takes labels ``(N,)``: so its loss, which it lets users replace, is replaced."""
    library = importlib.import_module("foolbox")
    own = library.attacks
    eps, steps = float(setting.phi or 0), setting.steps
    theirs: dict[str, Callable[[], Any]] = {
        "fgsm": own.LinfFastGradientAttack,
        "bim": lambda: own.LinfBasicIterativeAttack(abs_stepsize=eps / 4, steps=steps, random_start=False),
        "pgd": lambda: own.LinfPGD(abs_stepsize=eps / 4, steps=steps),
        "mifgsm": lambda: own.MIFGSM(momentum=1.0, abs_stepsize=eps / steps, steps=steps, random_start=False),
    }
    model = library.PyTorchModel(TwoClasses(localizer).eval(), bounds=(0, 1), device=batch.image.device)
    made = theirs[setting.attack]()

    def loss(images: Any) -> Any:
        return type(images)(binary_cross_entropy(localizer.logits(images.raw), batch.mask).sum())

    made.get_loss_fn = lambda model, labels: loss
    labels = torch.zeros(len(batch.image), dtype=torch.int64, device=batch.image.device)
    criterion = library.criteria.Misclassification(labels)
    return lambda: made.run(model, batch.image, criterion, epsilon=eps)  # type: ignore[no-any-return]


PEERS = {"torchattacks": with_torchattacks, "foolbox": with_foolbox}


def table(
    *, images: int, side: int, steps: int, repeats: int, clock: Clock, peers: tuple[str, ...] = tuple(PEERS)
) -> Table:
    """Every attack beside every library; a library that is absent or fails gets a line that says so."""
    localizer, samples = a_localizer("reference", clock.device), pictures(images, side)
    batch = as_batch(samples, clock.device)
    rows = []
    for name in ATTACKS:
        params = {} if name == "fgsm" else {"steps": steps}
        setting = expand_attack(name, phi=["2/255"], params=params)[0]
        for peer in peers:
            try:
                theirs = PEERS[peer](localizer, batch, setting)
                theirs()
            except Exception as error:  # whatever another library does is a line of the table
                told = f"{type(error).__name__}: {error}".splitlines()[0][:60]
                rows.append([name, peer, f"does not run: {told}", *[""] * (len(HEAD) - 3)])
                continue
            rows.append(_row(localizer, samples, batch, setting, peer, theirs, repeats, clock))
    note = (
        f"{images} images of {side}x{side} on `reference` as one batch, phi 2/255, {steps} steps, the same step sizes; medians of "
        f"{repeats} interleaved runs with 5 to 95 %; F1 on the 8-bit images. Target: not slower than torchattacks 3.5.1 "
        "(even: 1 lies within the spread)."
    )
    return Table("Each attack beside other libraries", HEAD, rows, note)


def _row(
    localizer: Localizer,
    samples: list[Sample],
    batch: Batch,
    setting: Setting,
    peer: str,
    theirs: Callable[[], Tensor],
    repeats: int,
    clock: Clock,
) -> list[str]:
    def ours() -> Tensor:
        return attack(localizer, batch, [setting], len(batch.image))[0]

    times = paired(ours, theirs, clock=clock, repeats=repeats)
    each = 1000 / (setting.steps * len(batch.image))
    f1_theirs, f1_ours = (f1_after(localizer, samples, batch, run(), setting) for run in (theirs, ours))
    told = ""
    if peer == "torchattacks":
        equal = abs(f1_theirs - f1_ours) <= STRENGTH
        told = _not_slower(times.ratios) if equal else "not equally strong"
    return [
        setting.attack,
        peer,
        middle([one * each for one in times.theirs]),
        middle([one * each for one in times.ours]),
        middle(times.ratios),
        f"{f1_theirs:.3f}",
        f"{f1_ours:.3f}",
        told,
    ]


def _not_slower(ratios: list[float]) -> str:
    """Missed only if ours is slower in nearly every pair: the network takes almost all of the time on both sides."""
    if median(ratios) >= 1:
        return verdict(True)
    return "even" if quantiles([*ratios, *ratios], n=20, method="inclusive")[-1] >= 1 else verdict(False)
