"""Record how busy a GPU was and what energy it took, for the run log; needs nvidia-ml-py (extra ``nvml``), else nothing."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

SAMPLE_SECONDS = 0.5


@contextmanager
def gpu_use(device: str) -> Iterator[Callable[[], dict[str, float]]]:
    """Watch a device inside the block, and yield a function that returns the figures so far.

    The figures are ``gpu_busy_percent`` (mean over samples) and ``gpu_joules`` (of the whole GPU, whoever used it); none for
    a CPU, or where the library or the driver is missing.
    """
    library = _library() if device.startswith("cuda") else None
    if library is None:
        yield dict
        return
    try:
        handle = library.nvmlDeviceGetHandleByUUID(_uuid(device))
        energy = library.nvmlDeviceGetTotalEnergyConsumption(handle)
    except library.NVMLError:
        yield dict
        return
    busy: list[float] = []
    stop = threading.Event()

    def sample() -> None:
        while True:
            busy.append(float(library.nvmlDeviceGetUtilizationRates(handle).gpu))
            if stop.wait(SAMPLE_SECONDS):
                return

    def gpu_figures() -> dict[str, float]:
        # NVML counts millijoules since the driver was loaded
        joules = (library.nvmlDeviceGetTotalEnergyConsumption(handle) - energy) / 1000
        samples = list(busy)
        return {
            "gpu_busy_percent": round(sum(samples) / max(1, len(samples)), 1),
            "gpu_joules": round(joules, 1),
        }

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield gpu_figures
    finally:
        stop.set()
        watcher.join()


def _library() -> Any:
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
    except ImportError:
        return None
    except library.NVMLError:  # a library without a driver
        return None
    return library


def _uuid(device: str) -> str:
    """Name the GPU for NVML: its number differs from CUDA's where CUDA_VISIBLE_DEVICES hides some."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
