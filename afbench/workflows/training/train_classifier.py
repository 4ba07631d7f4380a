"""Train an image-level classifier, and say what it is worth before and after, as it is and attacked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import torch

from afbench.core import Localizer, Setting, UsageError
from afbench.defences.ansm.batches import Batch, Pairs, Share, split_by_group, validation_batches
from afbench.defences.ansm.steps import full_precision
from afbench.defences.ansm.train import Hooks
from afbench.defences.hardening.classifier import FORMAT, Joined, image_level, load_classifier
from afbench.defences.hardening.fit import Job, fit, generator
from afbench.defences.hardening.settings import Hardening, Schedule
from afbench.files import commit_bytes, commit_json
from afbench.plan import make_setting
from afbench.reading.dataset import PairDataset
from afbench.reading.load_pairs import load, open_store
from afbench.storage.manifests import AUTHENTIC

from .online_attack import attacker, loss_of
from .train_ansm import lock_training
from .training_data import Opened

ACCURACY = "accuracy.json"
_JUDGED = 2**32
"""In place of an epoch: before and after are attacked with the same draws."""


def classify(
    data: Path,
    out: Path,
    settings: Hardening,
    schedule: Schedule,
    opened: Opened,
    checkpoint: str | None,
    attack: Setting | None,
    workers: int,
    hooks: Hooks | None,
) -> dict[str, Any]:
    """The same for an image-level classifier: the truth is whether anything is forged in what it sees."""
    pairs = _with_authentic(data, opened.dataset, schedule)
    device = str(opened.processes.device)
    with ExitStack() as stack:
        lock_training(stack, out)
        # what tells cameras apart is no one localizer's own
        packed = files("afbench.localizers") / "weights" / "reference.safetensors"
        start = str(stack.enter_context(as_file(packed)))
        path = None if checkpoint is None else Path(checkpoint)
        model = load_classifier(path, encoder_weights=start, seed=schedule.seed, device=device)
        facts = opened.facts(cast(Localizer, model))
        facts["localizer"] |= {"name": model.name, "configs_of": opened.name, "new": checkpoint is None}
        facts |= {"format": FORMAT, "settings": {**asdict(settings), **asdict(schedule)}}
        of_images = loss_of(model, settings, attack, schedule.seed)
        job = Job(
            settings.method,
            model.network,
            lambda batch, draws: of_images(batch._replace(mask=image_level(batch.mask)), draws),
        )
        before = _accuracy(model, pairs, schedule, device)
        card = fit(
            pairs,
            job,
            schedule,
            out,
            facts=facts,
            commit=commit_bytes,
            processes=opened.processes,
            hooks=hooks,
            workers=workers,
        )
        trained = load_classifier(out, device=device)
        accuracy = {"before": before, "after": _accuracy(trained, pairs, schedule, device)}
        commit_json(out / ACCURACY, accuracy)
    return {**card, "accuracy": accuracy}


def _accuracy(model: Localizer, pairs: Pairs, schedule: Schedule, device: str) -> dict[str, Any]:
    """Images put aside that are told right, in shares of both kinds (chance is 0.5), as they are and attacked.

    FGSM and PGD attack these very weights; ``benchmark`` are its stored images, which attacked a localizer.
    """
    cut = schedule.cut()
    aside = split_by_group(pairs.groups, schedule.validation, schedule.seed).validation
    attacks = {name: attacker(model, make_setting(name, "3/255"), schedule.seed) for name in ("fgsm", "pgd")}
    right: dict[str, list[tuple[bool, bool]]] = {}
    with full_precision():
        for number, batch in enumerate(
            validation_batches(pairs, aside, cut, stage=0, share=Share(), workers=0)
        ):
            moved = Batch(*(one.to(device) for one in batch))
            truth = image_level(moved.mask)
            seen = {"original": moved.original, "benchmark": moved.attacked}
            for name, attack in attacks.items():
                seen[f"{name} 3/255"] = attack(
                    moved.original, truth, generator(schedule.seed, _JUDGED, number)
                )
            for name, image in seen.items():
                with torch.no_grad():
                    told = model.logits(image)[:, 0, 0, 0] > 0
                forged = truth[:, 0, 0, 0] > 0
                right.setdefault(name, []).extend(
                    zip(forged.tolist(), (told == forged).tolist(), strict=True)
                )
    return {"images": len(aside), **{name: _balanced(found) for name, found in right.items()}}


def _balanced(found: list[tuple[bool, bool]]) -> float:
    """The mean over both kinds, as far as they are there, of the share that is right."""
    shares = [[right for kind, right in found if kind == wanted] for wanted in (True, False)]
    known = [sum(one) / len(one) for one in shares if one]
    return round(sum(known) / len(known), 4)


def _with_authentic(data: Path, dataset: PairDataset, schedule: Schedule) -> Pairs:
    """The pairs and the benchmark's authentic images; without those, crops must show what nobody forged."""
    if AUTHENTIC in open_store(data).configs:
        return Joined([dataset, load(data, AUTHENTIC)])
    whole = schedule.fit == "resize" or all(
        height <= schedule.side and width <= schedule.side for height, width in dataset.sizes
    )
    if whole:
        raise UsageError(
            f"'{data}' has no authentic images, and nothing to tell forged ones from; make it with `afbench generate "
            "--authentic`, or give --crop N below the images' size, for crops that nobody forged"
        )
    return dataset
