"""Attack one image, and tell what ``generate`` would store of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from afbench.core import AfbenchError, ByteImage, Localizer, Sample, Setting, UsageError
from afbench.defences.defended_localizer import undefended
from afbench.engine import AttackedRow, compute_precision, judge_samples, run_settings
from afbench.localizers import load_localizer, require_known
from afbench.metrics import f1
from afbench.plans import config_name

from ..adaptive import name_in_configs, put_behind_defence
from ..request import config_localizer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class AttackedImage:
    """An attacked image with its figures; pictures are uint8, masks 255 where forged.

    ``image``: ``(H, W, 3)`` RGB, the 8 bits that a forger would publish. ``original``, ``mask``: what was attacked. ``noise``:
    int16 ``(H, W, 3)``, attacked minus original in 8-bit levels. ``found_clean``, ``found_adv``: ``(H, W)``, what the localizer marks in
    the original and in the attacked image; ``f1_clean``, ``f1_adv``: their F1. ``psnr`` in dB (infinite where nothing changed),
    ``linf`` in levels. ``config``: what a benchmark calls this attack. ``member``: of an ensemble, the attack that made the image.
    """

    config: str
    image: ByteImage
    original: ByteImage
    mask: ByteImage
    noise: npt.NDArray[np.int16]
    found_clean: ByteImage
    found_adv: ByteImage
    f1_clean: float
    f1_adv: float
    psnr: float
    ssim: float
    linf: int
    member: str = ""

    def to_pil(self) -> Image.Image:
        """Return the attacked image as a Pillow image."""
        return Image.fromarray(self.image)

    def to_pandas(self) -> pd.DataFrame:
        """Return the figures as a table of one row, named as in ``afbench.results``."""
        import pandas as pd

        figures = {
            "config": self.config,
            "height": self.image.shape[0],
            "width": self.image.shape[1],
            "f1_clean": self.f1_clean,
            "f1_adv": self.f1_adv,
            "psnr": self.psnr if math.isfinite(self.psnr) else math.nan,
            "ssim": self.ssim,
            "linf": self.linf,
        }
        return pd.DataFrame([figures])


def localizer_to_attack(
    localizer: str | Localizer, checkpoint: str | None, through: str | None, *, device: str, seed: int
) -> tuple[Localizer, str]:
    """Return a localizer, behind the defence of ``through``, and what configs call it.

    Raises:
        UsageError: if it is neither a name nor a localizer, or cannot be loaded.
    """
    if isinstance(localizer, str):
        name = require_known(localizer)
        loaded = load_localizer(name, checkpoint, device=device)
    elif not all(hasattr(localizer, part) for part in ("name", "threshold", "logits", "probability")):
        raise UsageError(
            f"localizer must be a name, or have logits and probability; found {type(localizer).__name__}; "
            "`afbench.as_localizer` makes a localizer of a network"
        )
    elif checkpoint is not None:
        raise UsageError("checkpoint goes with a localizer given by name; this one has its weights")
    else:
        name, loaded = localizer.name, localizer
    target = put_behind_defence(loaded, name, through, device=device, seed=seed)
    return target, name_in_configs(config_localizer(name), target)


def attack_image(
    localizer: Localizer,
    name: str,
    sample: Sample,
    setting: Setting,
    *,
    seed: int,
    device: str,
    on_gradients: Callable[[int], None] = lambda images: None,
) -> AttackedImage:
    """Attack one sample with one setting, alone in its batch; ``name`` is the localizer's in configs.

    Raises:
        AfbenchError: if the attack meets NaN, or the image does not fit into memory.
    """
    with compute_precision("fp32", device):
        # the bare localizer, as in a benchmark: every RP refers to its result
        (original_result,) = judge_samples(undefended(localizer), [sample], batch_size=1, device=device)
        (row,) = run_settings(
            localizer,
            [sample],
            [original_result],
            [setting],
            seed=seed,
            batch_size=1,
            device=device,
            image_format="png",
            on_gradients=on_gradients,
        )[setting]
    if not isinstance(row, AttackedRow):
        raise AfbenchError(f"the image cannot be attacked: {row.reason} ({row.detail})")
    return AttackedImage(
        config=config_name(name, setting),
        image=row.image,
        original=sample.image,
        mask=sample.mask,
        # with a sign, for a difference of unsigned levels would wrap
        noise=row.image.astype(np.int16) - sample.image.astype(np.int16),
        found_clean=original_result.predicted,
        found_adv=row.attacked_result.predicted,
        f1_clean=float(f1(original_result.counts)),
        f1_adv=float(f1(row.attacked_result.counts)),
        psnr=row.distance.psnr,
        ssim=row.distance.ssim,
        linf=row.distance.linf,
        member=row.member,
    )
