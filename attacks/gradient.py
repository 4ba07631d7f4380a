"""What every attack needs: the gradient of a per-image loss, and the checks at an attack's entry."""

from collections.abc import Callable

import torch
from torch import Tensor

LossFn = Callable[[Tensor], Tensor]
"""``(N, 3, H, W)`` to one number per image ``(N,)``; images may leave [0, 1] inside an attack."""


def input_gradient(loss: LossFn, image: Tensor) -> Tensor:
    """Differentiate the summed per-image losses with respect to the image.

    The sum makes the gradient of one image independent of its batch, provided the localizer is. Parameters,
    their ``.grad`` and the caller's graph are untouched, and nothing waits for the device.

    Args:
        loss: one number per image ``(N,)``.
        image: ``(N, 3, H, W)``, any finite values.
    Returns:
        Same shape, dtype and device as ``image``; detached; contiguous, whatever the localizer works in, so that steps
        of an attack do not mix memory layouts.
    Raises:
        ValueError: if the loss is not one number per image, or does not depend on the image.
    """
    return loss_and_gradient(loss, image)[1]


def loss_and_gradient(loss: LossFn, image: Tensor) -> tuple[Tensor, Tensor]:
    """Compute what ``input_gradient`` does, and the losses ``(N,)`` it comes from, detached."""
    leaf = image.detach().requires_grad_()
    with torch.enable_grad():
        values = loss(leaf)
        if values.shape != leaf.shape[:1]:
            raise ValueError(
                f"loss must give one number per image, shape {tuple(leaf.shape[:1])}; "
                f"found {tuple(values.shape)}: reduce over each image's own pixels only"
            )
        # Parameters that require gradients keep the graph alive even where the image was cut off from it.
        gradient = (
            torch.autograd.grad(values.sum(), leaf, allow_unused=True)[0] if values.requires_grad else None
        )
    if gradient is None:
        raise ValueError(
            "loss does not depend on the image: the localizer is detached, runs under no_grad or "
            "inference_mode, or cannot be differentiated"
        )
    return values.detach(), gradient.contiguous()


def check_image(image: Tensor) -> Tensor:
    """Refuse what is not an image; called once, at an attack's entry: a wait for the device, and the only one but for `strong`.

    Args:
        image: float ``(N, 3, H, W)``, RGB in [0, 1].
    Returns:
        ``image`` detached, in the dtype of the attack's state: float64 stays, anything else becomes float32
        (half precision cannot hold the steps of an attack).
    Raises:
        ValueError: if ``image`` is not floating point, not ``(N, 3, H, W)``, or leaves [0, 1].
    """
    expected = "image must be float (N, 3, H, W), RGB in [0, 1]"
    if not image.is_floating_point() or image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(
            f"{expected}; found {image.dtype} {tuple(image.shape)}: put channels first and divide 8-bit "
            "images by 255"
        )
    if image.numel():
        low, high = image.aminmax()  # both NaN if a value is
        if not bool((low >= 0) & (high <= 1)):
            raise ValueError(
                f"{expected}; found values in [{float(low):g}, {float(high):g}]: divide 8-bit images by 255 and "
                "leave normalisation to the localizer"
            )
    return image.detach().to(torch.promote_types(image.dtype, torch.float32))


def check_shape(name: str, value: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Refuse a tensor that would broadcast silently into another shape.

    Args:
        name: what to call it in the error.
        value: the tensor that came in.
        shape: the only shape accepted.
        like: the attack's state.
    Returns:
        ``value`` detached, on the device and in the dtype of ``like``.
    Raises:
        ValueError: if ``value`` has another shape.
    """
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}; found {tuple(value.shape)}")
    return value.detach().to(like)


def check_steps(steps: int) -> None:
    """Refuse a step count below one.

    Raises:
        ValueError: if ``steps`` is below 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1; found {steps}")
