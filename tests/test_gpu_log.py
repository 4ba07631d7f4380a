"""How busy a GPU was, as a stand-in for its library tells it; no GPU is needed."""

import sys
import time
from types import SimpleNamespace

import pytest

from afbench.engine import gpu_log
from afbench.engine.gpu_log import gpu_use


class DriverError(Exception):
    pass


@pytest.fixture
def nvml(monkeypatch):
    """A GPU that is 80 % busy and takes 250 J between two looks."""
    energy = iter(range(0, 10**9, 250_000))
    library = SimpleNamespace(
        NVMLError=DriverError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(energy),
        nvmlDeviceGetUtilizationRates=lambda handle: SimpleNamespace(gpu=80),
    )
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(
        gpu_log.torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="a-b")
    )
    monkeypatch.setattr(gpu_log, "SAMPLE_SECONDS", 0.001)
    return library


def test_a_gpu_tells_how_busy_it_was_and_what_energy_it_took(nvml):
    asked = []
    nvml.nvmlDeviceGetHandleByUUID = asked.append
    with gpu_use("cuda:1") as told:
        time.sleep(0.02)
        assert told() == {"gpu_busy_percent": 80.0, "gpu_joules": 250.0}
    assert asked == ["GPU-a-b"]


def test_a_cpu_tells_nothing(nvml):
    with gpu_use("cpu") as told:
        assert told() == {}


@pytest.mark.parametrize(
    "broken", ["nvmlInit", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetTotalEnergyConsumption"]
)
def test_a_driver_that_does_not_answer_stops_no_run(nvml, broken):
    def refuse(*arguments):
        raise DriverError("not supported")

    setattr(nvml, broken, refuse)
    with gpu_use("cuda") as told:
        assert told() == {}


def test_a_missing_library_stops_no_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with gpu_use("cuda") as told:
        assert told() == {}
