"""The arithmetic asked for is on inside, and what was there before is back afterwards."""

import numpy as np
import pytest
import torch
from torch import nn

from afbench.engine import PRECISIONS, compute_precision, localize
from afbench.safe_convolutions import safe_convolutions


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


@pytest.mark.gpu
def test_a_large_convolution_is_that_of_float64_whatever_memory_is_free() -> None:
    layer = nn.Conv2d(4096, 1024, 3, padding=1, device="cuda").requires_grad_(False)
    features = torch.rand(4, 4096, 32, 32, device="cuda")

    def run() -> torch.Tensor:
        with compute_precision("fp32", "cuda"), safe_convolutions(layer):
            return layer(features)

    result = run()
    free, _ = torch.cuda.mem_get_info()
    filling = torch.empty(max(0, free - 8 * 2**30), dtype=torch.uint8, device="cuda")
    assert torch.equal(run(), result)
    del filling
    expected = layer.double()(features.double())
    assert float((result - expected).norm() / expected.norm()) < 1e-5


def test_bf16_computes_in_half_precision_and_fp32_does_not() -> None:
    ones = torch.ones(1, 1, 4, 4)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with compute_precision(precision, "cpu"):
            assert torch.nn.functional.conv2d(ones, ones).dtype == dtype


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
