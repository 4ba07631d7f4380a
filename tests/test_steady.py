"""A long run takes no more memory and no more open files than a short one, also when the disk is slow."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afbench import failpoints
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - itself one of them, every time


@pytest.mark.reliability("R15")
@pytest.mark.parametrize("shards", [24, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("disk", ["fast", "slow"])
def test_memory_and_open_files_stay_flat(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shards: int,
    disk: str,
    record_property: Callable[[str, object], None],
    on_gradients: Callable[..., None],
) -> None:
    root = tmp_path / "photographs"
    mask = np.zeros((96, 96), np.uint8)
    mask[4:40, 8:48] = 255
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(shards):
        pixels = np.random.default_rng(number).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number:04}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:04}.png")
    if disk == "slow":
        monkeypatch.setenv(failpoints.VARIABLE, "commit.fsync=*:10ms")
    seen: list[tuple[int, int]] = []
    settings = tuple(expand_attack("fgsm", phi=["1/255"]))
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(root)),), settings),))
    on_gradients(lambda images: seen.append((_resident(), _open_files())))
    outcome = generate(plan, tmp_path / "out", Options(checkpoint="random", shard_size=1))
    assert outcome.shards_written == 2 * shards and len(seen) == shards
    warm = shards // 4  # by then everything that is kept is there
    grown = max(memory for memory, _ in seen[-warm:]) - max(memory for memory, _ in seen[:warm])
    record_property("ran", f"{shards} shards, {disk} disk: {grown / 2**20:+.1f} MiB")
    # all images of the run kept would be 27 KB each, twice, and their gradients
    assert grown < 6 * 2**20 + shards * 2**13
    # beside the attack the shard before may be locked, and a file of it open
    assert max(files for _, files in seen[-warm:]) <= min(files for _, files in seen[:warm]) + 3
    assert verify(tmp_path / "out", level="fast") == []
