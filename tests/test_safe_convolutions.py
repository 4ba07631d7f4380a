"""cuDNN computes in float32 only where no convolution of the networks at work is too large for it."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from afbench.core import Localizer, Sample
from afbench.defences.purifier import Purifier
from afbench.engine import compute_precision, judge_samples, localize, run_settings
from afbench.engine.probe_max_batch import probe_max_batch
from afbench.localizers.conformance import check_localizer
from afbench.localizers.load import REFERENCE, known_localizers, recipe
from afbench.localizers.nets.reference_net import ReferenceNet
from afbench.plans import expand_attack
from afbench.safe_convolutions import full_precision, is_safe_for_cudnn, safe_convolutions


def on_meta(*layers: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(*(layer() for layer in layers))


LARGE = on_meta(lambda: nn.Conv2d(4096, 1024, 3))
SMALL = on_meta(lambda: nn.Conv2d(512, 512, 3))


@pytest.mark.parametrize(
    ("network", "is_safe"),
    [
        (LARGE, False),
        (on_meta(lambda: nn.Conv2d(16, 16, 3), lambda: nn.ConvTranspose2d(1024, 1024, 3)), False),
        (
            on_meta(lambda: nn.Conv2d(4096, 1024, 1), lambda: nn.Linear(4096, 1024)),
            True,
        ),  # nothing to transform
        (on_meta(lambda: nn.Conv2d(4096, 1024, 3, stride=2)), True),
        (on_meta(lambda: nn.Conv2d(4096, 4096, 7, groups=4096), lambda: nn.Conv2d(512, 512, 3)), True),
    ],
)
def test_a_convolution_of_many_channels_and_pixels_is_too_large_for_cudnn(
    network: nn.Module, is_safe: bool
) -> None:
    assert is_safe_for_cudnn(network) == is_safe
    with full_precision(SMALL, network):
        assert torch.backends.cudnn.enabled == is_safe
    assert torch.backends.cudnn.enabled


def closure_over(network: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda image: network(image).clamp(0, 1)


def module_with(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a function of a module that holds the network, and names another function of it, which names the network."""
    names: dict[str, Any] = {"NETWORK": network, "__name__": "own"}
    exec("def inner(image): return NETWORK(image)\ndef apply(image): return inner(image)", names)
    function: Callable[[Tensor], Tensor] = names["apply"]
    return function


class Wrapper:
    """A user's own localizer, which calls its network something else."""

    def __init__(self, network: nn.Module) -> None:
        self.parts = {"decoder": [network]}

    def logits(self, image: Tensor) -> Tensor:
        return image


@pytest.mark.parametrize(
    "hide",
    [
        Wrapper,
        closure_over,
        module_with,
        lambda network: partial(lambda network, image: network(image), network),
        lambda network: Wrapper(network).logits,
        lambda network: SimpleNamespace(inner=Wrapper(SMALL), defence=closure_over(network)),
        lambda network: Purifier(name="own", label="own", params={}, apply=closure_over(network)),
    ],
)
def test_a_network_is_found_in_what_holds_it(hide: Callable[[nn.Module], object]) -> None:
    assert is_safe_for_cudnn(hide(SMALL)) and not is_safe_for_cudnn(hide(LARGE))


def test_a_localizer_that_shows_no_network_computes_without_cudnn_and_a_plain_function_with_it() -> None:
    class Hidden:
        def logits(self, image: Tensor) -> Tensor:
            return LARGE(image)

    assert not is_safe_for_cudnn(Hidden())
    assert is_safe_for_cudnn(lambda image: image)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_only_fp32_leaves_cudnn_out_and_only_for_a_large_convolution(precision: str) -> None:
    with compute_precision(precision, "cpu"):
        for network in (LARGE, SMALL):
            with safe_convolutions(network):
                assert torch.backends.cudnn.enabled == (precision != "fp32" or network is SMALL)
            assert torch.backends.cudnn.enabled


class Spy:
    """A localizer of a large or a small network that notes whether cuDNN may compute, forward and backward."""

    name, threshold, weights_sha256, kib_per_pixel = "spy", 0.5, "0" * 64, 1.0

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.flags: list[bool] = []

    def note(self, gradient: Tensor | None = None) -> None:
        self.flags.append(torch.backends.cudnn.enabled)

    def logits(self, image: Tensor) -> Tensor:
        self.note()
        logits = image.mean(1, keepdim=True)
        if logits.requires_grad:
            logits.register_hook(self.note)
        return logits

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


def attack(spy: Localizer) -> None:
    image = np.full((16, 16, 3), 100, np.uint8)
    sample = Sample("a", image, np.eye(16, dtype=np.uint8) * 255)
    common = {"batch_size": 1, "device": "cpu"}
    with compute_precision("fp32", "cpu"):
        judged = judge_samples(spy, [sample], **common)  # type: ignore[arg-type]
        settings = expand_attack("bim", phi=["1/255"], params={"steps": 2})
        run_settings(spy, [sample], judged, list(settings), seed=0, image_format="png", **common)  # type: ignore[arg-type]


def score(spy: Localizer) -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    assert list(localize(spy, [image], defence=lambda image: image, batch_size=1, device="cpu"))


def probe(spy: Localizer) -> None:
    with compute_precision("fp32", "cpu"), pytest.MonkeyPatch.context() as patch:
        for name in ("empty_cache", "reset_peak_memory_stats"):
            patch.setattr(torch.cuda, name, lambda *args: None)
        patch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 100))
        probe_max_batch(spy, (16, 16), "cpu")


@pytest.mark.parametrize("use", [attack, score, probe, lambda spy: list(check_localizer(spy))])
def test_every_use_of_a_localizer_asks_its_own_network(use: Callable[[Localizer], object]) -> None:
    for network in (LARGE, SMALL):
        spy = Spy(network)
        use(spy)  # type: ignore[arg-type]
        assert spy.flags and set(spy.flags) == {network is SMALL}
        assert torch.backends.cudnn.enabled


def test_a_defence_with_a_large_convolution_is_scored_without_cudnn() -> None:
    spy = Spy(SMALL)
    image = np.zeros((16, 16, 3), np.uint8)

    def defence(image: Tensor, network: nn.Module = LARGE) -> Tensor:
        return image

    assert list(localize(spy, [image], defence=partial(defence, network=LARGE), batch_size=1, device="cpu"))  # type: ignore[arg-type]
    assert set(spy.flags) == {False}


def test_the_docs_name_the_shipped_localizers_that_compute_without_cudnn() -> None:
    unsafe = []
    for name in known_localizers():
        with torch.device("meta"):
            network = ReferenceNet() if name == REFERENCE else recipe(name).network()
        if not is_safe_for_cudnn(network):
            unsafe.append(name)
    text = (Path(__file__).parents[1] / "docs" / "reliability.md").read_text()
    (listed,) = re.findall(r"of the localizers that ship, these are (.+?)\.\n", text)
    assert re.findall(r"`(\w+)`", listed) == unsafe
