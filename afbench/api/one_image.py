"""``afbench.attack``: attack one image that is in memory."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from afbench.argument_types import checks_arguments
from afbench.core import Localizer, Sample, Setting, UsageError
from afbench.plans import shared_gradients
from afbench.plans.requested_settings import requested_settings
from afbench.untrusted import require_name
from afbench.work_progress import WorkPiece

from .bars import deferred_bar
from .keywords import Params, Phi, param_texts, texts_of

if TYPE_CHECKING:
    from afbench.workflows.generation.single_image import AttackedImage


@checks_arguments
def attack(
    localizer: str | Localizer,
    image: Any,
    mask: Any,
    attack: str = "pgd",
    *,
    phi: Phi | None = None,
    steps: int | None = None,
    param: Params = (),
    where: str | None = None,
    through_defence: str | None = None,
    through_post: str | None = None,
    checkpoint: str | None = None,
    sample_id: str = "image",
    seed: int = 0,
    large_phi: bool = False,
    device: str = "cpu",
    quiet: bool = False,
) -> AttackedImage:
    """Attack one image with one setting; return the 8 bits that ``afbench generate`` would store, and its figures.

    Args:
        localizer: a name as ``--localizer`` takes it, or a localizer that is loaded (``afbench.load_localizer``, ``afbench.as_localizer``).
        image: a path, a Pillow image, an array ``(H, W, 3)`` or ``(H, W)``, or a tensor ``(3, H, W)`` or ``(1, 3, H, W)``: uint8 RGB,
            or float in [0, 1], which is rounded to 8 bits first.
        mask: where the image is forged: a path, a Pillow image, or an array or tensor ``(H, W)`` or ``(1, H, W)``; bool, uint8 of
            0 and 255 or 0 and 1, or float in [0, 1].
        attack: the attack, e.g. ``fgsm``, ``pgd``, ``cw``, ``strong``.
        phi: the L-inf radius of the [0, 1] range, e.g. ``"2/255"``; not for ``cw``.
        steps: the number of C&W's steps; other attacks take ``param={"steps": N}``.
        param: other parameters of the attack, e.g. ``{"neighbours": 4}``.
        where: ``forged`` or ``authentic`` keeps the noise inside or outside of the forged pixels.
        through_defence: attack through this defence, with full knowledge of it, e.g. ``jpeg:75``.
        through_post: attack so that the noise survives a step of posting, e.g. ``jpeg:75``.
        checkpoint: weights of a localizer given by name; as for ``afbench.load_localizer``.
        sample_id: random draws follow it and ``seed``, as in a benchmark.
        seed: of every random draw.
        large_phi: accept phi above 0.1.
        device: where to compute: ``cpu``, ``cuda``, ...; of a loaded localizer the device that it is on.
        quiet: show no progress bar.
    Returns:
        An ``AttackedImage``: ``image``, ``noise``, ``f1_clean``, ``f1_adv``, ``psnr``, ``to_pil()``, ``to_pandas()``, ...
        The pixels are those that ``generate`` stores with the same ``sample_id`` and seed, this one setting and
        ``--batch-size 1``, in fp32 and on the same machine; other batches may move single levels.
    Raises:
        UsageError: for a picture, a localizer, an attack or a value that cannot be used.
        AfbenchError: if the attack meets NaN, or the image does not fit into memory.
    """
    setting = _setting(attack, phi, steps, param, where, large_phi)
    require_name("sample", sample_id)
    # after the cheap mistakes: this imports torch
    from afbench.workflows.generation.single_image import attack_image, localizer_to_attack
    from afbench.workflows.request import through_text

    from .user_pixels import image_pixels, mask_pixels

    pixels = image_pixels(image)
    sample = Sample(sample_id, pixels, mask_pixels(mask, pixels))
    target, name = localizer_to_attack(
        localizer, checkpoint, through_text(through_defence, through_post), device=device, seed=seed
    )
    with ExitStack() as stack:
        bar = deferred_bar(stack, attack, "grad", quiet=quiet)
        gradients = shared_gradients([setting])
        bar.start(gradients)
        piece = WorkPiece(lambda amount: bar.advance(int(amount)), gradients)
        attacked = attack_image(
            target,
            name,
            sample,
            setting,
            seed=seed,
            device=device,
            on_gradients=piece.add,
        )
        piece.finish()
        return attacked


def _setting(
    attack: str, phi: Phi | None, steps: int | None, param: Params, region: str | None, large_phi: bool
) -> Setting:
    """Return the one setting that is asked for.

    Raises:
        UsageError: for anything unknown, out of range, or missing.
    """
    params = param_texts(param)
    settings = requested_settings(
        [attack], phi=texts_of(phi), steps=texts_of(steps), params=params, region=region, large_phi=large_phi
    )
    if len(settings) > 1:
        missing = "steps=250" if settings[0].phi is None else 'phi="2/255"'
        raise UsageError(f"attack '{attack}' of one image needs one strength; give {missing}")
    return settings[0]
