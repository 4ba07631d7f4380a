"""Set the arithmetic of the localizer's passes; the attack's own state is always float32."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from afbench.core import UsageError

PRECISIONS = ("fp32", "tf32", "bf16")


@contextmanager
def compute_precision(precision: str, device: str, *, deterministic: bool = True) -> Iterator[None]:
    """Compute the block in fp32, in TF32 (NVIDIA GPUs; plain fp32 elsewhere) or under bf16 autocast.

    TF32 convolutions are on by default in PyTorch; here only ``precision`` turns them on. ``deterministic``
    makes a GPU use only kernels that give the same bytes again; a CPU's always do. Passes of a localizer in fp32 also run
    under ``safe_convolutions``.

    Raises:
        UsageError: if the localizer, its defence or the attack needs an operation that has no such kernel.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    previous = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
    try:
        with (
            _same_kernels(device, deterministic),
            torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"),
        ):
            yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = previous


@contextmanager
def _same_kernels(device: str, deterministic: bool) -> Iterator[None]:
    """Switch a GPU to deterministic mode; leave a CPU alone, where the mode would change bytes and slow down for no gain."""
    if not device.startswith("cuda"):
        yield
        return
    if deterministic:
        # cuBLAS reads this when it is loaded, and torch refuses matrix products without it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    settings, filling = torch.backends.cudnn, torch.utils.deterministic
    previous = torch.are_deterministic_algorithms_enabled(), settings.benchmark
    filled = filling.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(deterministic)
    # benchmark mode picks kernels by timing them, and another run may pick others
    settings.benchmark = False
    # deterministic mode would also fill every new tensor, which costs time and which valid code cannot see
    filling.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    except RuntimeError as error:
        if match := re.match(r"(.+?) does not have a deterministic implementation", str(error)):
            raise UsageError(
                f"on a GPU this run needs {match[1]}, which never gives the same bytes twice; "
                "give `afbench generate --no-deterministic`, and every shard will say so"
            ) from None
        raise
    finally:
        torch.use_deterministic_algorithms(previous[0])
        settings.benchmark = previous[1]
        filling.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def promised_level(device: str, *, deterministic: bool, compiled: bool) -> str:
    """Return the level of ``storage.manifests.PROMISES`` for images computed this way.

    A compiled network promises less on a GPU: the compiler picks kernels by timing them.
    """
    if not device.startswith("cuda"):
        return "L0"
    return "L1" if deterministic and not compiled else "L2"
