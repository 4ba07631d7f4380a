"""Train an image-level classifier, and say what it is worth before and after, as it is and attacked."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from afbench.core import Localizer, Setting, UsageError
from afbench.defences.hardening.classifier import FORMAT, Joined, image_level, load_classifier
from afbench.defences.hardening.hardening_loss import Hardening
from afbench.defences.training.batches import validation_batches
from afbench.defences.training.pairs import Batch, Pairs, Share, split_by_group
from afbench.defences.training.single_stage import Schedule, generator, train_single_stage
from afbench.defences.training.stage import VALIDATION, Moment, TrainingOptions
from afbench.files import commit_json
from afbench.plans import make_setting
from afbench.reading.dataset import PairDataset
from afbench.reading.load_pairs import load, open_store
from afbench.safe_convolutions import full_precision
from afbench.storage.manifests import AUTHENTIC

from .online_attack import attacker, loss_under_attack
from .training_data import TrainingData, training_files

ACCURACY = "accuracy.json"


def train_classifier(
    training: TrainingData,
    data: Path,
    out: Path,
    settings: Hardening,
    schedule: Schedule,
    options: TrainingOptions,
    checkpoint: str | None,
    attack: Setting | None,
) -> dict[str, Any]:
    """Train as ``train_hardened`` does for the task ``classify``: the truth is whether anything is forged in what it sees."""
    pairs = _with_authentic(data, training.pairs, schedule)
    device = str(training.processes.device)
    # what tells cameras apart is no one localizer's own
    with as_file(files("afbench.localizers") / "weights" / "reference.safetensors") as encoder_weights:
        model = load_classifier(
            None if checkpoint is None else Path(checkpoint),
            encoder_weights=str(encoder_weights),
            seed=schedule.seed,
            device=device,
        )
    card = training.card(model.weights_sha256, model.threshold)
    card["localizer"] |= {"name": model.name, "configs_of": training.localizer, "new": checkpoint is None}
    card |= {"format": FORMAT, "settings": {**asdict(settings), **asdict(schedule)}}
    pair_loss = loss_under_attack(model, settings, attack, schedule.seed)

    def loss(batch: Batch, draws: torch.Generator) -> Tensor:
        return pair_loss(batch._replace(mask=image_level(batch.mask)), draws)

    # locked while both are judged, too: accuracy.json is of this training
    with training_files(out, card, training.processes) as run_files:
        before_training = _accuracy(model, pairs, schedule, device)
        best_card = train_single_stage(
            pairs, model.network, loss, schedule, run_files, options, name=settings.method
        )
        after_training = _accuracy(load_classifier(out, device=device), pairs, schedule, device)
        accuracy = {"before": before_training, "after": after_training}
        commit_json(out / ACCURACY, accuracy)
    return {**best_card, "accuracy": accuracy}


def _accuracy(model: Localizer, pairs: Pairs, schedule: Schedule, device: str) -> dict[str, Any]:
    """Return the share of images put aside that are classified right, the mean over both kinds (chance is 0.5).

    FGSM and PGD attack these very weights; ``benchmark`` are its stored images, which attacked a localizer.
    """
    indices = split_by_group(pairs.groups, schedule.validation, schedule.seed).validation
    attacks = {name: attacker(model, make_setting(name, "3/255"), schedule.seed) for name in ("fgsm", "pgd")}
    answers: dict[str, list[tuple[bool, bool]]] = {}
    batches = validation_batches(pairs, indices, schedule.rules(), share=Share(), workers=0)
    with full_precision(model):
        for number, batch in enumerate(batches):
            original, attacked, mask = (image.to(device) for image in batch)
            truth = image_level(mask)
            images = {"original": original, "benchmark": attacked}
            for name, attack in attacks.items():
                # before and after training with the same draws
                draws = generator(schedule.seed, Moment(0, VALIDATION, number))
                images[f"{name} 3/255"] = attack(original, truth, draws)
            forged = (truth[:, 0, 0, 0] > 0).tolist()
            for name, image in images.items():
                with torch.no_grad():
                    answer = (model.logits(image)[:, 0, 0, 0] > 0).tolist()
                answers.setdefault(name, []).extend(zip(forged, answer, strict=True))
    return {"images": len(indices), **{name: _balanced(kinds) for name, kinds in answers.items()}}


def _balanced(answers: list[tuple[bool, bool]]) -> float:
    """Return the mean over both kinds, as far as they are there, of the share of truths and answers that agree."""
    by_kind = [[answer == kind for truth, answer in answers if truth == kind] for kind in (True, False)]
    shares = [sum(correct) / len(correct) for correct in by_kind if correct]
    return round(sum(shares) / len(shares), 4)


def _with_authentic(data: Path, pairs: PairDataset, schedule: Schedule) -> Pairs:
    """Return the pairs and the benchmark's authentic images; without those, crops must show what nobody forged."""
    if AUTHENTIC in open_store(data).configs:
        return Joined([pairs, load(data, AUTHENTIC)])
    all_of_image = schedule.fit == "resize" or all(
        height <= schedule.side and width <= schedule.side for height, width in pairs.sizes
    )
    if all_of_image:
        raise UsageError(
            f"'{data}' has no authentic images, and nothing to tell forged ones from; make it with `afbench generate "
            "--authentic`, or give --crop N below the images' size, for crops that nobody forged"
        )
    return pairs
