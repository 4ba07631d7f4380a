"""A tiny localizer, pairs for it, and a way to train on them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from afbench.defences.ansm.checkpoint import FORMAT
from afbench.defences.ansm.settings import Settings, complete_settings
from afbench.defences.ansm.train import train
from afbench.defences.training.processes import join_processes
from afbench.defences.training.run_files import RunFiles
from afbench.defences.training.stage import TrainingOptions
from afbench.files import commit_bytes
from afbench.work_progress import Progress


class TinyLocalizer:
    """Two convolutions, frozen."""

    name, threshold, weights_sha256 = "tiny", 0.5, "0" * 64

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)
        self.network = nn.ModuleList([self.first, self.second]).eval().requires_grad_(False)

    def features(self, image: Tensor, third: str = "middle") -> list[Tensor]:
        return [self.first(image)]

    def logits(self, image: Tensor) -> Tensor:
        return 20 * self.second(torch.relu(self.first(image)))

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


class RandomPairs:
    """``count`` pairs of 40x36 pixels in groups of two, attacked by random noise."""

    def __init__(self, count: int = 8) -> None:
        draw = torch.Generator().manual_seed(1)
        self.originals = torch.rand(count, 3, 40, 36, generator=draw)
        self.noise = torch.rand(count, 3, 40, 36, generator=draw) - 0.5
        self.masks = (torch.rand(count, 1, 40, 36, generator=draw) > 0.7).float()
        self.groups = [f"scene{index // 2}" for index in range(count)]

    def __len__(self) -> int:
        return len(self.originals)

    def __getitem__(self, index: int) -> dict[str, Any]:
        attacked = (self.originals[index] + self.noise[index] / 16).clamp(0, 1)
        return {"original": self.originals[index], "adversarial": attacked, "mask": self.masks[index]}


TINY = {
    "encoder": "small",
    "encoder_weights": "none",
    "side": 32,
    "epochs": (2, 1),
    "batch": 2,
    "validation": 0.25,
    "augment": ("flip", "perturb"),
    "average": 0.9,
}


@pytest.fixture
def localizer() -> TinyLocalizer:
    return TinyLocalizer()


@pytest.fixture
def pairs() -> RandomPairs:
    return RandomPairs()


@pytest.fixture
def tiny() -> Callable[..., Settings]:
    """Settings that train in a second: ``tiny(loss="mgr")``."""
    return lambda **given: Settings(**(TINY | given))


def _train(
    out: Path,
    localizer: Any,
    data: Any,
    *,
    card: Any = None,
    commit: Any = commit_bytes,
    online: Any = None,
    hooks: Progress | None = None,
    workers: int = 0,
    save_every: int = 200,
    **given: Any,
) -> dict[str, Any]:
    settings = Settings(**(TINY | given))
    default_card = {"localizer": {"name": "tiny"}, "data": {"configs": ["tiny-fgsm-3"]}, "processes": 1}
    all_of_card = {"format": FORMAT, **(card or default_card), "settings": settings.as_json()}
    files = RunFiles(out, all_of_card, commit, join_processes("cpu"), complete_settings)
    options = TrainingOptions(hooks or Progress(), workers, save_every)
    return train(data, localizer, settings, files, options, online)


@pytest.fixture
def run(localizer: TinyLocalizer, pairs: RandomPairs) -> Callable[..., dict[str, Any]]:
    """Train into a folder: ``run(out, loss="pwr", save_every=1, hooks=...)``."""
    return lambda out, data=None, **given: _train(out, localizer, data or pairs, **given)


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ansm") / "trained"
    _train(out, TinyLocalizer(), RandomPairs(), loss="pwr")
    return out


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Path:
    """The folder of a finished training, to change at will."""
    return Path(shutil.copytree(_trained, tmp_path / "trained"))
