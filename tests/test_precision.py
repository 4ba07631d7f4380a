"""The arithmetic asked for is on inside, and what was there before is back afterwards."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from afbench.defences.training.arithmetic import full_precision
from afbench.engine import PRECISIONS, compute_precision, localize


def _flags() -> tuple[bool, bool, bool]:
    return (
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.is_autocast_enabled("cpu"),
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_on_inside_and_restored_outside(precision: str) -> None:
    before = _flags()
    with compute_precision(precision, "cpu"):
        assert _flags() == (precision == "tf32", precision == "tf32", precision == "bf16")
    assert _flags() == before


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_is_restored_after_an_error(precision: str) -> None:
    before = _flags()
    with pytest.raises(KeyboardInterrupt), compute_precision(precision, "cpu"):
        raise KeyboardInterrupt
    assert _flags() == before


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fp32_leaves_cudnn_out_on_a_gpu_alone(precision: str) -> None:
    for device, is_on in (("cuda:0", precision != "fp32"), ("cpu", True)):
        with compute_precision(precision, device, deterministic=False):
            assert torch.backends.cudnn.enabled == is_on
        assert torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    ("layers", "is_on"),
    [
        (lambda: [nn.Conv2d(4096, 1024, 3)], False),
        (lambda: [nn.Conv2d(16, 16, 3), nn.ConvTranspose2d(1024, 1024, 3)], False),
        (lambda: [nn.Conv2d(4096, 1024, 1), nn.Linear(4096, 1024)], True),  # nothing to transform
        (lambda: [nn.Conv2d(4096, 4096, 7, groups=4096), nn.Conv2d(512, 512, 3)], True),
    ],
)
def test_a_training_leaves_cudnn_out_where_a_convolution_is_too_large_for_it(
    layers: Callable[[], list[nn.Module]], is_on: bool
) -> None:
    with torch.device("meta"):
        network = nn.Sequential(*layers())
    with full_precision(nn.Sequential(), network):
        assert torch.backends.cudnn.enabled == is_on
    assert torch.backends.cudnn.enabled


@pytest.mark.gpu
def test_a_large_convolution_is_that_of_float64_whatever_memory_is_free() -> None:
    layer = nn.Conv2d(4096, 1024, 3, padding=1, device="cuda").requires_grad_(False)
    features = torch.rand(4, 4096, 32, 32, device="cuda")

    def run() -> torch.Tensor:
        with compute_precision("fp32", "cuda"):
            return layer(features)

    result = run()
    free, _ = torch.cuda.mem_get_info()
    filling = torch.empty(max(0, free - 8 * 2**30), dtype=torch.uint8, device="cuda")
    assert torch.equal(run(), result)
    del filling
    expected = layer.double()(features.double())
    assert float((result - expected).norm() / expected.norm()) < 1e-5


def test_bf16_computes_in_half_precision_and_fp32_does_not() -> None:
    one = torch.ones(1, 1, 4, 4)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with compute_precision(precision, "cpu"):
            assert torch.nn.functional.conv2d(one, one).dtype == dtype


def test_what_is_scored_behind_a_defence_is_computed_in_fp32() -> None:
    flags = []

    class Spy:
        kib_per_pixel = 1.0

        def probability(self, image: torch.Tensor) -> torch.Tensor:
            flags.append(_flags())
            return image[:, :1]

    before = _flags()
    images = [np.zeros((4, 4, 3), np.uint8)]
    localized = list(localize(Spy(), images, defence=lambda image: image, batch_size=1, device="cpu"))  # type: ignore[arg-type]
    assert len(localized) == 1 and flags == [(False, False, False)] and _flags() == before
    assert torch.backends.cudnn.allow_tf32  # torch's own choice, which a scored map must not inherit
