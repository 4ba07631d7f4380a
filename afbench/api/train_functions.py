"""``afbench.train``: a function for each kind of training, since kinds share few of their keywords; each gives a ``Trained``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import UsageError
from afbench.localizers import require_known

from .bars import deferred_bar
from .keywords import Phi, Texts, require_choice, texts_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Trained", "ansm", "hardened", "nrp"]


@dataclass(frozen=True)
class Trained:
    """A training that is complete.

    ``card`` is what the best checkpoint says of itself: ``stage``, ``epoch``, ``validation_loss``, ``settings``, ``localizer``,
    ``data``, ... (as best.json), and of a classifier its ``accuracy`` before and after.
    """

    folder: Path
    card: Mapping[str, Any]

    @property
    def checkpoint(self) -> str:
        """Return the path of the weights with the lowest validation loss; of a localizer it is what ``checkpoint=`` takes."""
        return str(self.folder / "best.safetensors")

    def to_pandas(self) -> pd.DataFrame:
        """Return one row per epoch: ``stage``, ``epoch``, ``lr``, ``loss``, ``validation``."""
        import pandas as pd

        return pd.read_csv(self.folder / "log.csv")


def _both(option: str, values: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """Return what an option gives for both stages; None where it is left out.

    Raises:
        UsageError: for anything but two values.
    """
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != 2:
        raise UsageError(f"{option} takes two values, of the first and the second stage; found {values!r}")
    return tuple(values)


@checks_arguments
def ansm(
    *,
    data: str | Path,
    localizer: str,
    out: str | Path,
    config: str | None = None,
    preset: str = "paper",
    recipe: str | None = None,
    depth: str | None = None,
    loss: str | None = None,
    reverse: bool | None = None,
    mgr_mask: str | None = None,
    dice: str | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    crop: int | None = None,
    resize: int | None = None,
    mgr_side: int | None = None,
    epochs: tuple[int, int] | None = None,
    steps: tuple[int, int] | None = None,
    lr: tuple[float, float] | None = None,
    batch_size: int | None = None,
    schedule: str | None = None,
    average: float | None = None,
    clip: float | None = None,
    precision: str | None = None,
    bound: float | None = None,
    originals: float | None = None,
    noisy: float | None = None,
    attacks_from: float | None = None,
    attack: str | None = None,
    phi: Phi = "3/255",
    attack_steps: int | None = None,
    augment: Texts = (),
    validation: float | None = None,
    seed: int | None = None,
    checkpoint: str | None = None,
    workers: int = 0,
    device: str = "cpu",
    quiet: bool = False,
) -> Trained:
    """Train the ANSM, a network that undoes attacks on one localizer, as ``afbench train ansm`` does.

    Call it again to go on after an interruption. What is omitted is the preset's.

    Args:
        data: a finished benchmark, with originals.
        localizer: what the benchmark's config attacked.
        out: folder of the training; ``defence=f"ansm:{out}"`` puts its best checkpoint in front of the localizer.
        config: what to train on, e.g. ``reference-fgsm-3`` or ``reference-fgsm``; omitted, FGSM at 3/255, as the paper, or the first.
        preset: ``paper`` (Table II for this localizer), ``short`` (the same for few epochs) or ``shipped``; the keywords below replace
            its values.
        recipe: ``paper`` (one network by Algorithm 1) or ``find-write`` (a finder, and a writer that sees its mask).
        depth: ``shallow``, ``middle`` or ``topmost``: the third of the localizer whose features align.
        loss: ``ffa+mgr``, or one stage of ``pwr``, ``ffa``, ``mgr``.
        reverse: True trains FFA with KL(original || purified).
        mgr_mask: ``predicted`` or ``gt``, the mask that MgR trains towards.
        dice: denominator of MgR's dice loss: ``squares``, as the paper prints it, or ``plain`` sums.
        encoder: ``small``, or a network of timm, e.g. ``efficientnet_b0``.
        encoder_weights: ``imagenet`` (downloaded), ``none`` or a path.
        crop: train on random crops of so many pixels a side, for images at their own size.
        resize: train on images resized to so many pixels a side, the localizer's own size; the module then resizes in use too.
        mgr_side: side of the second stage, if it differs.
        epochs: passes over the data of both stages.
        steps: steps of both stages instead of ``epochs``.
        lr: learning rates of both stages.
        batch_size: images per step, over all processes.
        schedule: how the learning rate falls: ``plateau`` or ``cosine``.
        average: decay of a running average of the weights; 0 for none.
        clip: largest gradient norm; 0 for no limit.
        precision: of the module's passes while it is trained: ``fp32`` or ``bf16``.
        bound: largest noise added, of the [0, 1] range.
        originals: share of originals among a finder's images.
        noisy: share of originals with random noise among a finder's images.
        attacks_from: share of a finder's steps after which it also sees attacked images.
        attack: attack the localizer anew at every step, e.g. ``fgsm``, instead of reading the benchmark's attacked images; preset
            ``shipped`` takes ``fgsm``.
        phi: the L-inf radius of ``attack``, of the [0, 1] range.
        attack_steps: steps of ``attack``, if it takes any.
        augment: ``flip`` (and transpose), ``perturb`` (vary the attack's noise at random), or both.
        validation: share of the images, by groups, for validation.
        seed: of every random draw.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        workers: processes that read images.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        quiet: show no progress bar, and no loss of each epoch.
    Returns:
        A ``Trained``: ``folder``, ``checkpoint``, ``card``; ``to_pandas()`` has the losses of every epoch.
    Raises:
        UsageError: if the data, the localizer, the settings or the folder do not fit together.
        PartialError: if another process trains into ``out``.
        AfbenchError: if the loss is no number.
    """
    from afbench.defences.ansm.presets import SHIPPED_ATTACK
    from afbench.defences.ansm.settings import RECIPES
    from afbench.workflows.training.online_attack import make_attack
    from afbench.workflows.training.train_ansm import ansm_settings, train_ansm

    localizer = require_known(localizer)
    settings = ansm_settings(
        preset,
        localizer,
        recipe=None if recipe is None else require_choice("--recipe", recipe, RECIPES),
        crop=crop,
        resize=resize,
        depth=depth,
        loss=loss,
        reverse=reverse,
        mgr_mask=mgr_mask,
        dice=dice,
        encoder=encoder,
        encoder_weights=encoder_weights,
        mgr_side=mgr_side,
        epochs=_both("--epochs", epochs),
        steps=_both("--steps", steps),
        lr=_both("--lr", lr),
        batch=batch_size,
        schedule=schedule,
        average=average,
        clip=clip,
        precision=precision,
        bound=bound,
        originals=originals,
        noisy=noisy,
        attacks_from=attacks_from,
        augment=texts_of(augment) or None,  # none keeps the preset's
        validation=validation,
        seed=seed,
    )
    with ExitStack() as stack:
        card = train_ansm(
            Path(data),
            Path(out),
            settings,
            localizer=localizer,
            config=config,
            checkpoint=checkpoint,
            attack=make_attack(
                attack or (SHIPPED_ATTACK if preset == "shipped" else None), str(phi), attack_steps
            ),
            device=device,
            workers=workers,
            hooks=deferred_bar(stack, "train", "img", quiet=quiet),
        )
    return Trained(Path(out), card)


@checks_arguments
def hardened(
    *,
    data: str | Path,
    localizer: str,
    out: str | Path,
    config: str | None = None,
    method: str = "both",
    task: str = "localize",
    penalty: float | None = None,
    attack: str | None = None,
    phi: Phi = "3/255",
    steps: int | None = None,
    checkpoint: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    resize: int | None = None,
    clip: float | None = None,
    validation: float | None = None,
    seed: int | None = None,
    workers: int = 0,
    device: str = "cpu",
    quiet: bool = False,
) -> Trained:
    """Train a localizer's own weights, or a classifier's, so that attacks find it harder, as ``afbench train hardened`` does.

    Attack the result as any localizer, with ``checkpoint=trained.checkpoint``: what attacks on the old weights leave of it says
    little. Call it again to go on after an interruption.

    Args:
        data: a finished benchmark, with originals.
        localizer: what the benchmark's config attacked.
        out: folder of the training.
        config: what to train on, e.g. ``reference-fgsm-3`` or ``reference-pgd``; omitted, FGSM at 3/255, or the first.
        method: train on originals and attacked images (``at``), on originals with a penalty on the input gradient
            (``gradient-penalty``), or ``both``; ``none`` is the control of a classifier.
        task: ``localize`` hardens the localizer, ``classify`` a classifier of forged and authentic images.
        penalty: weight of the penalty; omitted, 0.1.
        attack: attack the weights in training anew at every step, e.g. ``fgsm`` or ``pgd``; omitted, the benchmark's own images.
        phi: the L-inf radius of ``attack``, of the [0, 1] range.
        steps: steps of ``attack``, if it takes any.
        checkpoint: what to start from, if neither embedded nor registered; a classifier for ``classify``.
        epochs: passes over the data.
        lr: the learning rate; it falls to 0 along a cosine.
        batch_size: pairs per step.
        crop: train on random crops of so many pixels a side.
        resize: train on images resized to so many pixels a side.
        clip: largest gradient norm; 0 for no limit.
        validation: share of the images, by groups, for validation.
        seed: of every random draw.
        workers: processes that read images.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        quiet: show no progress bar, and no loss of each epoch.
    Returns:
        A ``Trained``: ``folder``, ``checkpoint``, ``card``; ``to_pandas()`` has the losses of every epoch.
    Raises:
        UsageError: if the data, the localizer, the settings or the folder do not fit together.
        PartialError: if another process trains into ``out``.
        AfbenchError: if the loss is no number.
    """
    from afbench.defences.hardening.hardening_loss import Hardening, check_hardening
    from afbench.defences.setting_checks import from_options
    from afbench.workflows.training.image_sizes import schedule_of
    from afbench.workflows.training.online_attack import make_attack
    from afbench.workflows.training.train_hardened import train_hardened

    localizer = require_known(localizer)
    settings = check_hardening(from_options(Hardening, {"method": method, "task": task, "penalty": penalty}))
    schedule = schedule_of(
        epochs=epochs,
        lr=lr,
        batch=batch_size,
        crop=crop,
        resize=resize,
        clip=clip,
        validation=validation,
        seed=seed,
    )
    with ExitStack() as stack:
        card = train_hardened(
            Path(data),
            Path(out),
            settings,
            schedule,
            localizer=localizer,
            config=config,
            checkpoint=checkpoint,
            attack=make_attack(attack, str(phi), steps),
            device=device,
            workers=workers,
            hooks=deferred_bar(stack, "train", "img", quiet=quiet),
        )
    return Trained(Path(out), card)


@checks_arguments
def nrp(
    *,
    data: str | Path,
    localizer: str,
    out: str | Path,
    config: str | None = None,
    features: str | None = None,
    feature_weights: str | None = None,
    depth: str | None = None,
    perturbation: str | None = None,
    pixels: float | None = None,
    checkpoint: str | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    crop: int | None = None,
    resize: int | None = None,
    clip: float | None = None,
    validation: float | None = None,
    seed: int | None = None,
    workers: int = 0,
    device: str = "cpu",
    quiet: bool = False,
) -> Trained:
    """Train a purifier in feature space, from originals alone unless told otherwise, as ``afbench train nrp`` does.

    Call it again to go on after an interruption.

    Args:
        data: a finished benchmark, with originals.
        localizer: what the benchmark's config attacked.
        out: folder of the training; ``defence=f"nrp:{out}"`` puts its best checkpoint in front of the localizer.
        config: what to train on, e.g. ``reference-fgsm-3`` or ``reference-pgd``; omitted, FGSM at 3/255, or the first.
        features: network whose features are restored: ``localizer``, or a network of timm, which then serves any localizer.
        feature_weights: weights of a timm network: ``imagenet`` (downloaded), ``none`` or a path.
        depth: ``shallow``, ``middle`` or ``topmost`` third of the localizer.
        perturbation: ``feature`` purifies images whose features were pushed away, ``benchmark`` the benchmark's attacked ones.
        pixels: weight of the distance of pixels, next to that of features.
        checkpoint: weights of the localizer, if they are neither embedded nor registered.
        epochs, lr, batch_size, crop, resize, clip, validation, seed, workers, device, quiet: as for ``afbench.train.hardened``.
    Returns:
        A ``Trained``: ``folder``, ``checkpoint``, ``card``; ``to_pandas()`` has the losses of every epoch.
    Raises:
        UsageError: if the data, the localizer, the settings or the folder do not fit together.
        PartialError: if another process trains into ``out``.
        AfbenchError: if the loss is no number.
    """
    from afbench.workflows.training.image_sizes import schedule_of
    from afbench.workflows.training.train_nrp import nrp_settings, train_nrp

    localizer = require_known(localizer)
    settings = nrp_settings(
        features=features,
        feature_weights=feature_weights,
        depth=depth,
        perturbation=perturbation,
        pixels=pixels,
    )
    schedule = schedule_of(
        epochs=epochs,
        lr=lr,
        batch=batch_size,
        crop=crop,
        resize=resize,
        clip=clip,
        validation=validation,
        seed=seed,
    )
    with ExitStack() as stack:
        card = train_nrp(
            Path(data),
            Path(out),
            settings,
            schedule,
            localizer=localizer,
            config=config,
            checkpoint=checkpoint,
            device=device,
            workers=workers,
            hooks=deferred_bar(stack, "train", "img", quiet=quiet),
        )
    return Trained(Path(out), card)
