"""Everything that decides what a training gives, in one value that its checkpoint repeats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from afbench.core import UsageError
from afbench.defences.setting_checks import require_choice, require_limits
from afbench.defences.training.batch_rules import CROP, FITS

PAPER, FIND_WRITE = "paper", "find-write"
RECIPES = (PAPER, FIND_WRITE)
LOSSES = ("pwr", "ffa", "mgr", "ffa+mgr")
DEPTHS = ("shallow", "middle", "topmost")
MASKS = ("predicted", "gt")
DICES = ("squares", "plain")
AUGMENTS = ("flip", "perturb")
SCHEDULES = ("plateau", "cosine")
TRAINING_PRECISIONS = ("fp32", "bf16")


class AnsmStage(NamedTuple):
    """One stage of a training: its loss, passes over the data, learning rate, and steps where the passes are cut short."""

    loss: str
    epochs: int
    lr: float
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a module is trained; the values given here are Table II's for IF-OSN.

    Attributes:
        recipe: ``paper`` (one network, Algorithm 1), or ``find-write`` (a finder, then a writer that sees its hard mask).
        encoder: ``small`` or timm's name; of ``paper``.
        encoder_weights: ``imagenet``, ``none`` or a path: what the encoder starts from.
        loss: ``ffa+mgr`` (Algorithm 1), or one stage of ``pwr``, ``ffa`` or ``mgr``.
        depth: third of the localizer whose features FFA aligns.
        reverse: KL(original || purified) instead of the paper's KL(purified || original).
        mgr_mask: what MgR wants: the localizer's mask of the original (``predicted``), or the ground truth (``gt``).
        dice: denominator of MgR's dice loss: the sum of ``squares``, as Eq. 15 prints it, or of the ``plain`` values.
        ffa_mask: weight of the attacked image's mask loss beside FFA; 0 is the paper's.
        fit: what the module sees, in training and in use: a ``crop`` at the image's own size (in use the whole image), or
            the image resized to ``side`` x ``side`` as its localizer resizes, ``resize`` (bilinear) or ``resize-antialiased``.
        mgr_side: another side for MgR, whose masks need more of an image than features do; None for the same.
        first_side: of ``find-write``: side of the crops in the first three quarters of the finder's training; None
            for ``side``. Smaller crops are cheaper, and whole pictures come last.
        epochs: passes over the data of the first and the second stage; a single stage is the first,
            except that ``mgr`` alone takes its own.
        steps: steps of the first and the second stage instead of whole passes; (0, 0) for ``epochs``.
        lr: AdamW's learning rate of the same.
        batch: images a step, of all processes together.
        warmup: steps over which the learning rate rises from 0 at the beginning of a stage.
        schedule: ``plateau`` (x0.9 after 10 epochs without progress) or ``cosine`` to 0 over each stage.
        average: decay of a running average of the weights, which is then what is validated and kept; 0 for none.
        clip: largest gradient norm; 0 for no limit.
        attack: what attacks the localizer at every step anew, after the image was cut and turned, e.g. ``fgsm-3``;
            empty for the benchmark's own images. Several, one of them each time, are joined by ``+``.
        turned: of ``find-write``: the finder looks at two turned and noisy copies of an attacked image, not at the image. It
            sees more so, unless attacks were made anew in its training; older checkpoints always look so.
        augment: ``flip`` (and transpose), ``perturb`` (scale, thin out and blur the attack's noise at random).
        precision: of the module's passes in training: ``fp32``, or ``bf16`` by autocast, but for the residual filters,
            which cannot tell 255 levels in it. Weights, their steps and the localizer stay in float32, and so is a module in use.
        bound: largest noise the module may add, in units of the [0, 1] range.
        originals: of ``find-write``: share of originals among the images the finder sees; the others are attacked.
        noisy: of ``find-write``: share of originals with random noise among them.
        attacks_from: of ``find-write``: share of the finder's steps after which it sees attacked images; before, originals
            with and without random noise alone. To find a forgery at all is learned faster without attacks.
        validation: share of the images, by whole groups, that is never trained on.
        seed: of every random draw.
    """

    recipe: str = PAPER
    encoder: str = "efficientnet_b4"
    encoder_weights: str = "imagenet"
    loss: str = "ffa+mgr"
    depth: str = "middle"
    reverse: bool = False
    mgr_mask: str = "predicted"
    dice: str = "squares"
    ffa_mask: float = 0.0
    fit: str = "crop"
    side: int = 256
    mgr_side: int | None = None
    first_side: int | None = None
    epochs: tuple[int, int] = (1000, 20)
    steps: tuple[int, int] = (0, 0)
    lr: tuple[float, float] = (5e-4, 1e-5)
    batch: int = 16
    weight_decay: float = 1e-2
    warmup: int = 0
    schedule: str = "plateau"
    average: float = 0.0
    clip: float = 0.0
    attack: str = ""
    turned: bool = True
    augment: tuple[str, ...] = field(default=())
    precision: str = "fp32"
    bound: float = 1.0
    originals: float = 0.0
    noisy: float = 0.0
    attacks_from: float = 0.0
    validation: float = 0.1
    seed: int = 0

    @property
    def stages(self) -> tuple[AnsmStage, ...]:
        """Return the stages of the training, in order."""
        first, second = zip(self.epochs, self.lr, self.steps, strict=True)
        if self.recipe == FIND_WRITE:
            return AnsmStage("find", *first), AnsmStage("write", *second)
        if self.loss == "ffa+mgr":
            return AnsmStage("ffa", *first), AnsmStage("mgr", *second)
        return (AnsmStage(self.loss, *(second if self.loss == "mgr" else first)),)

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as checkpoints store them."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


def replace_settings(base: Settings, replacements: Mapping[str, Any]) -> Settings:
    """Replace those settings that are not None, and check all.

    Raises:
        UsageError: for a value that cannot be.
    """
    settings = replace(base, **{name: value for name, value in replacements.items() if value is not None})
    for name, choices in _CHOICES.items():
        require_choice(settings, name, choices)
    unknown = [name for name in settings.augment if name not in AUGMENTS]
    if unknown:
        raise UsageError(f"augment must be among {', '.join(AUGMENTS)}; found '{unknown[0]}'")
    if settings.mgr_side is not None and settings.fit != CROP:
        raise UsageError(
            "--mgr-side goes with --crop: resized images have the localizer's size in both stages; leave it out"
        )
    if settings.fit != CROP:
        settings = replace(settings, first_side=None)  # a resized image has the localizer's size
    require_limits(settings, _limits(settings))
    return settings


UNRECORDED: Mapping[str, Any] = {
    "recipe": PAPER,
    "dice": "plain",
    "attack": "",
    "turned": True,
    "first_side": None,
    "steps": [0, 0],
    "warmup": 0,
    "precision": "fp32",
    "bound": 1.0,
    "originals": 0.0,
    "noisy": 0.0,
    "attacks_from": 0.0,
}
"""What a training was that began before these settings existed: its checkpoint doesn't name them."""


def complete_settings(recorded: Any) -> Any:
    """Add to a checkpoint's settings those that were not recorded in its time."""
    return {**UNRECORDED, **recorded} if isinstance(recorded, Mapping) else recorded


_SIDE = "32 pixels or more"
_CHOICES = {
    "recipe": RECIPES,
    "loss": LOSSES,
    "depth": DEPTHS,
    "mgr_mask": MASKS,
    "dice": DICES,
    "fit": FITS,
    "schedule": SCHEDULES,
    "precision": TRAINING_PRECISIONS,
}


def _limits(settings: Settings) -> dict[str, tuple[bool, str]]:
    positive, shares = "a number from 0", settings.originals + settings.noisy
    # steps without attacks need something else to show
    shows_images = settings.attacks_from == 0 or shares > 0
    return {
        "side": (settings.side >= 32, _SIDE),
        "mgr_side": (settings.mgr_side is None or settings.mgr_side >= 32, _SIDE),
        "first_side": (settings.first_side is None or settings.first_side >= 32, _SIDE),
        "batch": (settings.batch >= 1, "1 image or more"),
        "steps": (all(count >= 0 for count in settings.steps), "0 steps or more in each stage"),
        "warmup": (settings.warmup >= 0, positive),
        "bound": (0 < settings.bound <= 1, "a number above 0, up to 1"),
        "originals": (settings.originals >= 0, positive),
        "noisy": (settings.noisy >= 0 and shares <= 1, "a number from 0, with originals up to 1"),
        "attacks_from": (
            0 <= settings.attacks_from <= 1 and shows_images,
            "a number from 0 to 1; above 0 it needs a share of originals or noisy ones",
        ),
        "epochs": (all(count >= 1 for count in settings.epochs), "1 epoch or more in each stage"),
        "lr": (all(0 < rate < 1 for rate in settings.lr), "numbers between 0 and 1"),
        "ffa_mask": (settings.ffa_mask >= 0, positive),
        "weight_decay": (settings.weight_decay >= 0, positive),
        "average": (0 <= settings.average < 1, "a number from 0, below 1"),
        "clip": (settings.clip >= 0, positive),
        "validation": (0 <= settings.validation < 1, "a number from 0, below 1"),
        "seed": (settings.seed >= 0, "a whole number from 0"),
    }
