"""The arithmetic asked for is on inside, and what was there before is back afterwards."""

import pytest
import torch

from afbench.engine import PRECISIONS, compute_precision


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


def test_bf16_computes_in_half_precision_and_fp32_does_not() -> None:
    one = torch.ones(1, 1, 4, 4)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with compute_precision(precision, "cpu"):
            assert torch.nn.functional.conv2d(one, one).dtype == dtype
