"""Running out of memory: launches are halved, and what does not fit by itself is left out and can be tried again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from afbench.core import AfbenchError, Sample
from afbench.engine import AttackedRow, Failure, judge, run_settings
from afbench.engine.memory import OutOfMemory
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import TOP, open_benchmark
from afbench.storage.verify import verify
from afbench.work_progress import Progress
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options

pytestmark = pytest.mark.reliability("R9")
SETTINGS = expand_attack("pgd", params={"steps": 2})
NO_ROOM = (
    torch.OutOfMemoryError("CUDA out of memory."),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory"),
)


@dataclass
class Small:
    """A localizer with room for ``most`` images at once; computes in float64, so that a batch changes no bit."""

    most: int = 1000
    most_pixels: int = 10**9
    error: BaseException = NO_ROOM[0]
    largest: int = 0
    name: str = "small"
    threshold: float = 0.5
    weights_sha256: str = "0" * 64

    def logits(self, image: Tensor) -> Tensor:
        if len(image) > self.most or image.shape[-1] * image.shape[-2] > self.most_pixels:
            raise self.error
        self.largest = max(self.largest, len(image))
        weight = torch.linspace(-1, 1, 27, dtype=torch.float64).reshape(1, 3, 3, 3)
        return 4 * F.conv2d(image.double() - 0.5, weight, padding=1)

    def probability(self, image: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(image))


def _sample(number: int, height: int = 16, width: int = 16) -> Sample:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[4:12, 6:14] = 255
    return Sample(f"sample-{number}", pixels, mask)


SAMPLES = [_sample(0), _sample(1), _sample(2, 16, 32), _sample(3), _sample(4)]


def _run(localizer: Small, **given: Any) -> list[AttackedRow | Failure]:
    before = judge(
        Small(), [one.image for one in SAMPLES], [one.mask for one in SAMPLES], batch_size=8, device="cpu"
    )
    done = run_settings(
        localizer, SAMPLES, before, SETTINGS, seed=0, batch_size=8, device="cpu", image_format="png", **given
    )
    return [one for setting in SETTINGS for one in done[setting]]


def _bytes(rows: Sequence[AttackedRow | Failure]) -> list[bytes]:
    return [one.encoded for one in rows if isinstance(one, AttackedRow)]


@pytest.mark.parametrize("error", NO_ROOM, ids=["gpu", "python", "cpu"])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_launches_are_halved_until_they_fit_and_the_images_are_the_same(
    most: int, error: BaseException
) -> None:
    halved: list[tuple[tuple[int, int], int]] = []
    tight = Small(most, error=error)
    rows = _run(tight, on_halved=lambda size, images: halved.append((size, images)))
    assert _bytes(rows) == _bytes(_run(Small())) and len(_bytes(rows)) == len(rows)
    assert 0 < tight.largest <= most
    square = [images for size, images in halved if size == (16, 16)]
    assert square == [4, 2, 1][: len(square)] and square[-1] <= max(most, 1)


def test_a_run_told_where_another_ended_launches_the_same_and_does_not_fail_again() -> None:
    halved: list[Any] = []
    tight = Small(2)
    rows = _run(tight, batch_sizes={(16, 16): 2, (16, 32): 2}, on_halved=lambda *told: halved.append(told))
    assert halved == [] and _bytes(rows) == _bytes(_run(Small()))


def test_an_image_that_does_not_fit_by_itself_is_left_out_and_the_others_are_unaffected() -> None:
    after = _run(Small(), batch_sizes={})
    rows = _run(Small(most_pixels=16 * 16))
    failed = [one for one in rows if isinstance(one, Failure)]
    assert {(one.sample_id, one.reason) for one in failed} == {("sample-2", "out_of_memory")}
    assert len(failed) == len(SETTINGS) and "16x32" in failed[0].detail
    kept = [
        one.encoded for one in after if isinstance(one, AttackedRow) and one.sample.sample_id != "sample-2"
    ]
    assert _bytes(rows) == kept


def test_another_failure_is_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        _run(Small(1, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


def test_scoring_halves_too_and_fails_in_one_line_when_one_image_does_not_fit() -> None:
    images, masks = [one.image for one in SAMPLES], [one.mask for one in SAMPLES]
    whole = judge(Small(), images, masks, batch_size=8, device="cpu")
    assert [one.counts for one in judge(Small(1), images, masks, batch_size=8, device="cpu")] == [
        one.counts for one in whole
    ]
    with pytest.raises(OutOfMemory, match="does not fit one image of 16x32"):
        judge(Small(most_pixels=256), images, masks, batch_size=8, device="cpu")


@pytest.fixture
def make(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Generate with a localizer that has room only for some images when it takes gradients."""

    def make(out: Path, localizer: Small, *, attack: str = "fgsm", **options: Any) -> Any:
        bound = localizer.logits
        free = replace(localizer, most=1000, most_pixels=10**9)
        localizer.logits = lambda image: bound(image) if image.requires_grad else free.logits(image)  # type: ignore[method-assign]
        monkeypatch.setattr(
            "afbench.workflows.generation.prepare.load_localizer", lambda *asked, **given: localizer
        )
        plan = RunPlan(
            "test",
            (Block(("reference",), (SourceSpec("folder", str(photographs)),), tuple(expand_attack(attack))),),
        )
        return generate(
            plan,
            out,
            Options(checkpoint="random", shard_size=2, **options),
            GenerateHooks(progress=Progress(say=said.append)),
        )

    said: list[str] = []
    make.said = said  # type: ignore[attr-defined]
    return make


def _failed(out: Path) -> dict[str, list[str]]:
    return {
        config: [one["sample_id"] for shard in manifest.shards for one in shard.excluded]
        for config, manifest in open_benchmark(out).attacked.items()
    }


def test_a_run_says_and_logs_that_it_was_halved(make: Any, tmp_path: Path) -> None:
    make(tmp_path, Small(1), attack="pgd", batch_size=8)
    assert any("out of memory at 32x32: going on with" in line for line in make.said)
    assert '"halved": [[32, 32, 1]]' in (tmp_path / "log" / "run.jsonl").read_text(encoding="utf-8")
    assert verify(tmp_path, level="deep") == []


def test_a_run_in_which_nothing_fits_is_one_error_and_stores_no_attack(make: Any, tmp_path: Path) -> None:
    with pytest.raises(AfbenchError, match=r"out of memory; lower.*even one image at a time"):
        make(tmp_path, Small(0))
    assert not list(tmp_path.glob("data/small-*")) and not (tmp_path / TOP).exists()


@pytest.mark.reliability("R8")
def test_failed_samples_are_tried_again_when_asked_and_other_shards_are_not_touched(
    make: Any, tmp_path: Path
) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino) for path in tmp_path.rglob("*")}

    assert make(tmp_path, Small(most_pixels=32 * 32)).excluded_counts == {"out_of_memory": 1}
    assert set(map(tuple, _failed(tmp_path).values())) == {("photo1",)}
    before = state()
    make(tmp_path, Small())
    assert state() == before
    outcome = make(tmp_path, Small(), retry_failed=True)
    assert outcome.excluded_counts == {} and outcome.shards_written == 3
    assert not any(_failed(tmp_path).values()) and verify(tmp_path, level="deep") == []
    after = state()
    for path in tmp_path.glob("data/*/*.parquet"):
        retried = path.name.startswith("folder-00000") and path.parent.name != "clean"
        assert (after[str(path)] != before[str(path)]) == retried, path
    make(tmp_path, Small(), retry_failed=True)
    assert state() == after


def test_a_second_try_that_is_stopped_is_completed_by_a_plain_run(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, Small(most_pixels=32 * 32))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("afbench.workflows.generation.shard_run.write_shard", _interrupt)
        make(tmp_path, Small(), retry_failed=True)
    assert any("not finished" in problem.message for problem in verify(tmp_path))
    make(tmp_path, Small())
    assert not any(_failed(tmp_path).values()) and verify(tmp_path, level="deep") == []


def _interrupt(*asked: Any, **given: Any) -> None:
    raise KeyboardInterrupt
