"""Run attacks of the torchattacks library on a localizer, which it takes for a classifier of two classes per pixel."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from afbench.core import Setting, UsageError
from afbench.plans import CLASSES
from afbench.plans.catalogue import FAMILY, INSTALL

Logits = Callable[[Tensor], Tensor]

TRANSFORMED = ("ta_difgsm", "ta_tifgsm")
"""Attacks that show the localizer images of other sizes: their first gradient says nothing of the image's own pixels."""


def attack_one(
    logits: Logits, image: Tensor, mask: Tensor, setting: Setting, *, key: int, phi: float
) -> Tensor:
    """Attack one image, with torch's generators forked and seeded with its own key.

    One at a time, because nearly all of these attacks average the loss over the batch, or draw for the whole batch: so no
    image depends on its batch. On another kind of device a random attack draws other numbers.

    Args:
        logits: ``(1, 3, h, w)`` to ``(1, 1, h, w)``.
        image: float ``(1, 3, H, W)``, RGB in [0, 1].
        mask: ``(1, 1, H, W)`` of 0 and 1.
        setting: of an attack of the catalogue.
        key: 64 bits.
        phi: L-inf radius in units of the [0, 1] range.
    Returns:
        Same shape as ``image``, within the phi ball and [0, 1], not yet quantised; NaN if a gradient was not finite.
    Raises:
        UsageError: if the library cannot be imported.
    """
    try:
        library = importlib.import_module(FAMILY)
    except ImportError as error:
        raise UsageError(f"torchattacks cannot be imported ({error}); install it with: {INSTALL}") from None
    # some attacks of the library call .view() on images
    image = image.contiguous()
    model = _TwoClasses(logits, image)
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(key)
        attack = getattr(library, CLASSES[setting.attack])(model, **_arguments(setting, phi, image))
        attacked = attack(image, mask[:, 0].long()).detach()
    projected = torch.clamp(attacked, (image - phi).clamp(min=0), (image + phi).clamp(max=1))
    # the library takes signs of gradients, and the sign of NaN is 0
    return torch.where(model.finite, projected, torch.nan)


def _arguments(setting: Setting, phi: float, image: Tensor) -> dict[str, Any]:
    """Build the arguments of the library's class: radius and step size from phi, the rest as recorded."""
    arguments = {name: value for name, value in setting.params.items() if name != FAMILY}
    radius = phi * image[0].numel() ** 0.5 if "eps" in arguments else phi
    arguments["max_epsilon" if "num_iter_set" in arguments else "eps"] = radius
    for ratio, unit in (("alpha_over_phi", phi), ("alpha_over_eps", radius)):
        if ratio in arguments:
            arguments["alpha"] = arguments.pop(ratio) * unit
    return arguments


class _TwoClasses(nn.Module):
    """Logits ``z`` of one image as ``[0, z]``: the cross-entropy of two classes is then the binary one.

    Holds no module, so that the library, which switches its model between training and evaluation, never switches the
    localizer. Logits of a resized copy are stretched to the image's size, which is that of its mask.
    """

    def __init__(self, logits: Logits, image: Tensor) -> None:
        super().__init__()
        # the library asks the first parameter for the device
        self.anchor = nn.Parameter(torch.zeros((), device=image.device), requires_grad=False)
        self.finite = torch.ones((), dtype=torch.bool, device=image.device)
        self.logits, self.size = logits, image.shape[2:]
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        z = _Isolated.apply(image, self)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if z.shape[2:] != self.size:
            z = F.interpolate(z, size=self.size, mode="bilinear", align_corners=False)
        return torch.cat([torch.zeros_like(z), z], dim=1)


class _Isolated(torch.autograd.Function):
    """Logits that pass gradients to the image alone: some attacks call ``backward``, which would fill ``.grad`` elsewhere."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, model: _TwoClasses) -> Tensor:
        if not ctx.needs_input_grad[0]:
            return model.logits(image)
        with torch.enable_grad():
            leaf = image.detach().requires_grad_()
            z = model.logits(leaf)
        ctx.leaf, ctx.z, ctx.model = leaf, z, model
        return z.detach()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (gradient,) = torch.autograd.grad(ctx.z, ctx.leaf, grad_outputs[0])
        ctx.model.finite = ctx.model.finite & torch.isfinite(gradient).all()
        # contiguous for the same reason as the image
        return gradient.contiguous(), None
