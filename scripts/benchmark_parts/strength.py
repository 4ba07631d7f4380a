"""(g) What attacks of afbench and of other libraries leave of F1 with the same number of gradients."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from functools import partial
from statistics import mean

import torch
from torch import Tensor, nn

from afbench.core import Localizer, Setting
from afbench.engine.grid import AttackBatch
from afbench.losses import binary_cross_entropy, soft_f1
from afbench.plans import expand_attack
from afbench.plans.ensemble import GRADIENTS

from .clock import Clock, any_kernels, middle
from .pictures import a_localizer, as_batch, attack, f1_after, pictures
from .table import Table

AFBENCH = "afbench"
PHI = "1/255"
HEAD = (
    *("attack", "library", "loss", "gradients", "taken", "ms per gradient taken", "times bim"),
    *("s per image", "times bim per image", "F1 left"),
)
LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"bce": binary_cross_entropy, "soft-f1": soft_f1}
Runner = Callable[[], tuple[Tensor, int]]
"""Attacks a batch; returns the images, and how many gradients it took, counted image by image."""


class ImageLogits(nn.Module):
    """Logits of two classes for each image, whose cross-entropy with class 0 is the loss of its mask: libraries for
    classification raise just that."""

    def __init__(self, localizer: Localizer, mask: Tensor, loss: str) -> None:
        super().__init__()
        self.network = localizer.network  # type: ignore[attr-defined]
        self.localizer, self.mask, self.loss = localizer, mask, loss

    def forward(self, image: Tensor) -> Tensor:
        loss = LOSSES[self.loss](self.localizer.logits(image), self.mask).clamp(min=1e-6)
        # softplus(log(expm1(loss))) is the loss
        z = loss + torch.log(-torch.expm1(-loss))
        return torch.stack([torch.zeros_like(z), z], dim=1)


def of_torchattacks(name: str, loss: str, localizer: Localizer, batch: AttackBatch, steps: int) -> Runner:
    """Prepare PGD or APGD of torchattacks."""
    library = importlib.import_module("torchattacks")
    phi = _phi()
    model = ImageLogits(localizer, batch.mask, loss).eval()
    labels = torch.zeros(len(batch.image), dtype=torch.int64, device=batch.image.device)
    if name == "pgd":
        pgd = library.PGD(model, eps=phi, alpha=phi / 4, steps=steps, random_start=True)
        return lambda: (pgd(batch.image, labels), steps * len(batch.image))
    # its step counts one gradient more: that at the start
    apgd = library.APGD(model, norm="Linf", eps=phi, steps=steps - 1, n_restarts=1, loss="ce", eot_iter=1)
    # by itself it returns the original where no label changed, and a mask has no label
    return lambda: (apgd.perturb(batch.image, labels, best_loss=True)[1], steps * len(batch.image))


def of_foolbox(name: str, loss: str, localizer: Localizer, batch: AttackBatch, steps: int) -> Runner:
    """Prepare PGD of foolbox."""
    library = importlib.import_module("foolbox")
    model = library.PyTorchModel(
        ImageLogits(localizer, batch.mask, loss).eval(), bounds=(0, 1), device=batch.image.device
    )
    labels = torch.zeros(len(batch.image), dtype=torch.int64, device=batch.image.device)
    phi = _phi()
    pgd = library.attacks.LinfPGD(abs_stepsize=phi / 4, steps=steps)
    criterion = library.criteria.Misclassification(labels)
    # the images before foolbox asks whether a label changed
    return lambda: (pgd.run(model, batch.image, criterion, epsilon=phi), steps * len(batch.image))


def of_afbench(name: str, loss: str, localizer: Localizer, batch: AttackBatch, steps: int) -> Runner:
    """Prepare an attack of ours."""
    setting = _setting(name, loss, steps)
    return lambda: attack(localizer, batch, [setting], len(batch.image))


ROWS = (
    ("bim", AFBENCH, "bce", of_afbench),
    ("pgd", "torchattacks", "bce", of_torchattacks),
    ("pgd", "foolbox", "bce", of_foolbox),
    ("apgd", "torchattacks", "bce", of_torchattacks),
    ("apgd", "torchattacks", "soft-f1", of_torchattacks),
    ("strong", AFBENCH, "all", of_afbench),
)


def table(*, images: int, at_once: int, side: int, clock: Clock, steps: int = GRADIENTS) -> Table:
    """Run every row on the same batches, turn by turn, and score what would be stored."""
    localizer, samples = a_localizer("reference", clock.device), pictures(images, side)
    # seconds of an image, and how many gradients it took
    seconds: dict[int, list[float]] = {number: [] for number in range(len(ROWS))}
    taken: dict[int, list[float]] = {number: [] for number in range(len(ROWS))}
    scores: dict[int, list[float]] = {number: [] for number in range(len(ROWS))}
    faults: dict[int, str] = {}
    bound = _setting("bim", "bce", steps)
    for first in range(0, len(samples), at_once):
        part = samples[first : first + at_once]
        batch = as_batch(part, clock.device)
        for number, (name, library, loss, prepare) in enumerate(ROWS):
            if number in faults:
                continue
            try:
                outputs: list[tuple[Tensor, int]] = []
                torch.manual_seed(first)
                runner = prepare(name, loss, localizer, batch, steps)
                runner = runner if library == AFBENCH else any_kernels()(runner)
                if not first and clock.device.startswith("cuda"):
                    runner()  # a GPU's first run of a batch size builds what later ones use
                    torch.manual_seed(first)
                seconds[number].append(clock(partial(_keep, runner, outputs)) / len(part))
                taken[number].append(outputs[0][1] / len(part))
            except Exception as error:  # whatever another library does is a line of the table
                faults[number] = f"does not run: {type(error).__name__}: {error}".splitlines()[0][:70]
                continue
            f1 = f1_after(localizer, part, batch, outputs[0][0].detach(), bound)
            scores[number] += [f1] * len(part)
    rows = []
    for number, (name, library, loss, _) in enumerate(ROWS):
        if number in faults:
            rows.append([name, library, loss, faults[number], *[""] * (len(HEAD) - 4)])
            continue
        per_gradient = [time / count for time, count in zip(seconds[number], taken[number], strict=True)]
        ratios = [
            (gradient_seconds * steps / bim_seconds, image_seconds / bim_seconds)
            for gradient_seconds, image_seconds, bim_seconds in zip(
                per_gradient, seconds[number], seconds[0], strict=True
            )
        ]
        rows.append(
            [
                *(name, library, loss, str(GRADIENTS if name == "strong" else steps)),
                f"{mean(taken[number]):.4g}",
                middle([1000 * value for value in per_gradient]),
                "" if number == 0 else middle([gradient_ratio for gradient_ratio, _ in ratios]),
                middle(seconds[number]),
                "" if number == 0 else middle([image_ratio for _, image_ratio in ratios]),
                f"{mean(scores[number]):.3f}",
            ]
        )
    note = (
        f"{images} images of {side}x{side} on `reference`, phi {PHI}, batches of {at_once}; at most {steps} gradients an image for each: "
        "`strong` ends once F1 of its batch is 0. F1 of the 8-bit images; medians over the batches with 5 to 95 %. `strong` also takes forward "
        "passes without a gradient, which are in its time. "
        "Other libraries raise the loss of each image by a logit whose cross-entropy it is."
    )
    return Table("Strength at equal gradients", HEAD, rows, note)


def _keep(runner: Runner, outputs: list[tuple[Tensor, int]]) -> None:
    outputs.append(runner())


def _phi() -> float:
    top, bottom = PHI.split("/")
    return int(top) / int(bottom)


def _setting(name: str, loss: str, steps: int) -> Setting:
    params = {} if name == "strong" else {"steps": steps, "loss": loss}
    return expand_attack(name, phi=[PHI], params=params)[0]
