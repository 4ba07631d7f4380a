"""Algorithm 1: train the module against a frozen localizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from afbench.core import Localizer
from afbench.defences.training.batch_rules import BatchRules
from afbench.defences.training.learning_rate import plateau, warm_cosine
from afbench.defences.training.loop import train_stages
from afbench.defences.training.pairs import Attack, Batch, Pairs, split_by_group
from afbench.defences.training.run_files import RunFiles
from afbench.defences.training.stage import VALIDATION, Moment, TrainingOptions, TrainingStage

from .noise_variation import attack_originals, vary_noise
from .parts import build_module, trained_part
from .settings import Settings
from .stage_loss import layer_shapes, stage_loss


def train(
    data: Pairs,
    localizer: Localizer,
    settings: Settings,
    files: RunFiles,
    options: TrainingOptions,
    attack: Attack | None = None,
    start: Mapping[str, Tensor] | None = None,
) -> dict[str, Any]:
    """Train a module, or go on with a training that was stopped; other arguments, returns and errors as ``train_stages``.

    Args:
        localizer: frozen; on the device of the files' processes. Gradients flow through it, none are taken to its weights.
        files: whose card says ``localizer``, ``data`` and the settings; every process calls this with the same arguments.
        attack: what makes the attacked images anew at every step, where ``settings.attack`` names one. Validation
            takes the benchmark's own.
        start: weights to begin with, of a module of the same recipe; None for random ones.
    Source: the ANSM paper, Algorithm 1 and Table II.
    """
    finished_card = files.finished()  # asked first: an encoder's weights may be a download
    if finished_card is not None:
        return finished_card
    device = files.processes.device
    parts = split_by_group(data.groups, settings.validation, settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(
            settings.seed
        )  # of the first weights, and of what a network of timm drops at random
        network = build_module(settings.as_json(), settings.encoder_weights)
        if start is not None:
            network.load_state_dict(start)
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        numbers = range(len(settings.stages))
        stages = [_build_stage(settings, number, network, localizer, attack) for number in numbers]
        aligns = any(stage.name == "ffa" for stage in stages)
        files.card["layers"] = layer_shapes(localizer, settings, device) if aligns else []
        return train_stages(
            data, parts, network, stages, files, options, settings.average, frozen=[localizer]
        )


def _in_precision(part: Callable[..., Any], precision: str) -> Callable[..., Any]:
    """Return what is trained as a call whose passes are in a precision, and whose results are float32."""
    if precision == "fp32":
        return part

    def call(*inputs: Tensor) -> Any:
        # without a cache, so that a pass can be recorded
        with torch.autocast(inputs[0].device.type, torch.bfloat16, cache_enabled=False):
            return pytree.tree_map(Tensor.float, part(*inputs))

    return call


def batch_rules(settings: Settings, number: int) -> BatchRules:
    """Return which images the steps of a stage see."""
    stage = settings.stages[number]
    finds = stage.loss == "find"
    online = bool(settings.attack)  # then the attacked image is not there yet when an image is cut
    return BatchRules(
        seed=settings.seed,
        stage=number,
        batch=settings.batch,
        epochs=stage.epochs,
        steps=stage.steps,
        fit=settings.fit,
        side=settings.mgr_side or settings.side if stage.loss == "mgr" else settings.side,
        first_side=settings.first_side if finds else None,
        attacks_from=settings.attacks_from if finds else 0.0,
        flip="flip" in settings.augment,
        vary=None if online else partial(vary_noise, settings=settings, loss=stage.loss),
    )


def _build_stage(
    settings: Settings, number: int, network: nn.Module, localizer: Localizer, attack: Attack | None
) -> TrainingStage:
    name, lr = settings.stages[number].loss, settings.stages[number].lr

    def loss(part: Callable[..., Any], batch: Batch, moment: Moment) -> Tensor:
        if attack is not None and moment.epoch != VALIDATION:
            batch = attack_originals(batch, attack, settings, name, moment)
        return stage_loss(name, _in_precision(part, settings.precision), localizer, batch, settings)

    return TrainingStage(
        name=name,
        loss=loss,
        part=trained_part(network, name),
        lr=lr,
        weight_decay=settings.weight_decay,
        clip=settings.clip,
        schedule=plateau if settings.schedule == "plateau" else partial(warm_cosine, warmup=settings.warmup),
        rules=batch_rules(settings, number),
    )
