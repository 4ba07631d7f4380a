"""Arithmetic of the localizer's passes; the attack's own state is always float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def compute_precision(precision: str, device: str) -> Iterator[None]:
    """Run what is inside in fp32, in TF32 (NVIDIA GPUs; plain fp32 elsewhere) or under bf16 autocast.

    TF32 convolutions are on by default in PyTorch; here they are on only when asked for.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
