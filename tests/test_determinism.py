"""Which bytes come out again is promised, kept and written down; launches that were measured are taken again."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.engine import compute_precision
from afbench.engine.precision import _same_kernels, promised_level
from afbench.engine.probe_max_batch import MOST_IMAGES, SHARE, fitting_batch, probe_max_batch
from afbench.localizers import load_localizer
from afbench.localizers.compiled import compile_forward
from afbench.localizers.custom import as_localizer
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.config_manifest import ShardRecord
from afbench.storage.contents import inspect
from afbench.storage.manifests import PROMISES, open_benchmark
from afbench.storage.verify import verify
from afbench.workflows.generation import shard_run as work
from afbench.workflows.generation.batch_log import logged_batch_sizes
from afbench.workflows.generation.generate import generate
from afbench.workflows.generation.run_context import RunContext
from afbench.workflows.generation.run_progress import GradientCounter
from afbench.workflows.request import Options
from afbench.workflows.rerun.recorded_run import read_recorded_run
from afbench.workflows.rerun.reproduce import reproduce

FGSM = tuple(expand_attack("fgsm", phi=["1/255"]))
CONFIG = "reference-fgsm-1"


@pytest.fixture
def run(photographs: Path) -> Callable[..., Any]:
    """Generate in a folder with options."""

    def run(out: Path, **options: Any) -> Any:
        plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), FGSM),))
        return generate(plan, out, Options(checkpoint="random", shard_size=2, **options))

    return run


def _levels(out: Path, config: str = CONFIG) -> list[str]:
    (part,) = open_benchmark(out).configs[config].splits.values()
    return [shard.determinism for shard in part.shards]


def test_what_is_promised_follows_from_how_it_is_made() -> None:
    assert promised_level("cpu", deterministic=False, compiled=True) == "L0"
    assert promised_level("cuda:1", deterministic=True, compiled=False) == "L1"
    assert promised_level("cuda", deterministic=False, compiled=False) == "L2"
    assert promised_level("cuda", deterministic=True, compiled=True) == "L2"


@pytest.mark.reliability("R16")
def test_the_level_stands_in_manifests_cards_and_inspect(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "one")
    assert _levels(tmp_path / "one") == ["L0", "L0"] and _levels(tmp_path / "one", "clean") == ["", ""]
    assert inspect(tmp_path / "one")["configs"][CONFIG]["determinism"] == "L0"
    assert f"Made again: L0, {PROMISES['L0']}." in (tmp_path / "one" / "README.md").read_text("utf-8")
    levels = iter(["L1", "L2"])
    monkeypatch.setattr(work, "promised_level", lambda *asked, **how: next(levels))
    run(tmp_path / "two")
    assert inspect(tmp_path / "two")["configs"][CONFIG]["determinism"] == "L1, L2"
    told = (tmp_path / "two" / "README.md").read_text("utf-8")
    assert "| L1, L2 |" in told and PROMISES["L1"] in told and PROMISES["L2"] in told
    hashes = [open_benchmark(tmp_path / one).attacked[CONFIG].config_hash for one in ("one", "two")]
    assert hashes[0] == hashes[1]


def test_a_record_of_a_version_that_promised_nothing_stays_as_it_was() -> None:
    record = ShardRecord(
        path="data/x/y.parquet",
        rows=1,
        bytes=2,
        sha256="a",
        ids_sha256="b",
        first_id="c",
        last_id="d",
        excluded=(),
    )
    assert "determinism" not in record.as_json()
    assert ShardRecord.from_json(replace(record, determinism="L1").as_json()).determinism == "L1"


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_asked_for_kernels_that_repeat_and_left_as_it_was(deterministic: bool) -> None:
    def state() -> tuple[bool, bool, bool]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.backends.cudnn.benchmark,
            torch.utils.deterministic.fill_uninitialized_memory,
        )

    before = state()
    with pytest.raises(KeyboardInterrupt), _same_kernels("cuda", deterministic):
        assert state() == (deterministic, False, False)
        raise KeyboardInterrupt
    assert state() == before
    with compute_precision("fp32", "cpu", deterministic=deterministic):
        assert state() == before


@pytest.mark.parametrize(
    "operation", ["adaptive_max_pool2d_backward_cuda", "median CUDA with indices output"]
)
def test_an_operation_without_such_a_kernel_is_one_line_that_names_the_option(operation: str) -> None:
    message = f"{operation} does not have a deterministic implementation, but you set ..."
    with (
        pytest.raises(UsageError, match=rf"needs {operation},.*--no-deterministic"),
        _same_kernels("cuda", True),
    ):
        raise RuntimeError(message)
    with pytest.raises(RuntimeError, match="another"), _same_kernels("cuda", True):
        raise RuntimeError("another failure")


@pytest.mark.parametrize(
    ("free", "one", "two", "expected"),
    [
        (1000, 100, 200, 8),  # eight of 100 in 80 %
        (1000, 130, 230, 4),  # 30 whatever the number: 7.7 fit
        (1000, 900, 1800, 1),
        (100, 1000, 2000, 1),
        (10**12, 1, 2, MOST_IMAGES),
        (1000, 100, 100, MOST_IMAGES),  # what costs nothing more
    ],
)
def test_a_launch_is_the_power_of_two_that_fits(free: int, one: int, two: int, expected: int) -> None:
    assert fitting_batch(free, one, two) == expected
    assert expected in (1, MOST_IMAGES) or one + (expected - 1) * (two - one) <= SHARE * free


def test_measured_launches_are_logged_taken_again_on_resume_and_by_reproduce(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: sizes are measured where the device is none that computes here."""
    measured: list[tuple[int, int]] = []

    def batch_sizes(run: Any, task: Any, samples: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(run, "device", "cuda")
            return real(run, task, samples)

    real = work._measured_batch_sizes
    monkeypatch.setattr(work, "_measured_batch_sizes", batch_sizes)
    monkeypatch.setattr(work, "probe_max_batch", lambda one, size, device: measured.append(size) or 1)
    run(tmp_path)
    assert sorted(measured) == [(32, 32), (32, 48)]  # once a size, not once a shard
    assert logged_batch_sizes(tmp_path, "reference") == {(32, 32): 1, (32, 48): 1}
    assert logged_batch_sizes(tmp_path, "another") == {}
    assert read_recorded_run(tmp_path, CONFIG, "folder", 0).batch_sizes == {(32, 32): 1, (32, 48): 1}
    assert verify(tmp_path, level="deep") == [] and reproduce(tmp_path, f"{CONFIG}/folder/photo0").identical
    (tmp_path / "data" / CONFIG / "folder-00001-of-00002.parquet").unlink()
    monkeypatch.setattr(work, "probe_max_batch", lambda *asked: pytest.fail("measured again"))
    context = RunContext(
        out=tmp_path,
        seed=0,
        device="cuda",
        batch_size=None,
        image_format="webp",
        progress=GradientCounter(seconds=1.0, advance=print),
        say=print,
        image_threads=0,
        deterministic=True,
        compiled=False,
    )
    samples = [SampleOf((32, 48)), SampleOf((32, 32))]
    assert real(context, TaskOf("reference"), samples) == {(32, 48): 1, (32, 32): 1}
    assert real(replace(context, batch_size=3), TaskOf("reference"), samples) == {}


def test_a_damaged_log_says_nothing_of_launches(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    lines = ["no JSON", "[]", '{"event": "group"}', '{"event": "group", "localizer": "a", "launches": [[1]]}']
    lines.append(json.dumps({"event": "group", "localizer": "a", "launches": [[8, 9, 4], [9, 9, 0]]}))
    lines.append(json.dumps({"event": "group", "localizer": "a", "launches": [[8, 9, 2]]}))
    (tmp_path / "log" / "run.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert logged_batch_sizes(tmp_path, "a") == {(8, 9): 4}
    assert logged_batch_sizes(tmp_path / "none", "a") == {}


@dataclass(frozen=True)
class TaskOf:
    name: str
    localizer: None = None


class SampleOf:
    def __init__(self, size: tuple[int, int]) -> None:
        self.mask = torch.zeros(size).numpy()


@pytest.fixture
def as_compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """How often a network was compiled; nothing is."""
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: asked.append(how))
    return asked


def test_a_compiled_run_says_so_and_is_made_again_compiled(
    run: Any, tmp_path: Path, as_compiled: list[dict[str, Any]]
) -> None:
    run(tmp_path / "plain")
    assert as_compiled == []
    run(tmp_path / "compiled", compile=True)
    assert as_compiled == [{"dynamic": True}]
    plain, compiled = (open_benchmark(tmp_path / one).attacked[CONFIG] for one in ("plain", "compiled"))
    assert compiled.provenance == {**plain.provenance, "compile": True}
    assert compiled.config_hash != plain.config_hash
    reproduce(tmp_path / "compiled", f"{CONFIG}/folder/photo0")
    assert len(as_compiled) == 2
    with pytest.raises(UsageError, match="made differently"):
        run(tmp_path / "plain", compile=True)


def test_a_localizer_that_cannot_be_compiled_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: nn.Module, **how: Any) -> None:
        raise RuntimeError("\nno compiler\nin 40 lines")

    monkeypatch.setattr(nn.Module, "compile", fail)
    with pytest.raises(UsageError, match=r"cannot make 'reference' \(RuntimeError: no compiler\); leave"):
        compile_forward(load_localizer("reference"))

    class Bare:
        name = "bare"

    with pytest.raises(UsageError, match="needs a localizer with a `network`; 'bare' has none"):
        compile_forward(Bare())  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_compiled_localizer_has_the_same_logits_and_gradients_for_all_sizes() -> None:
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
    network = nn.Sequential(
        first, nn.BatchNorm2d(8), nn.SiLU(), nn.AvgPool2d(2), nn.Upsample(scale_factor=2), second
    )
    plain, compiled = (as_localizer(copy.deepcopy(network), name="small") for _ in range(2))
    compile_forward(compiled)

    def both(localizer: Any, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        image = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        logits = localizer.logits(image)
        return logits.detach(), torch.autograd.grad(logits.sum(), image)[0]

    for shape in ((1, 3, 64, 64), (2, 3, 48, 80), (3, 3, 64, 64)):
        for found, expected in zip(both(compiled, shape), both(plain, shape), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
def test_a_measured_launch_fits_on_the_gpu() -> None:
    localizer = load_localizer("reference", device="cuda")
    number = probe_max_batch(localizer, (512, 512), "cuda")
    image = torch.full((number, 3, 512, 512), 0.5, device="cuda", requires_grad=True)
    torch.autograd.grad(localizer.logits(image).sum(), image)
    assert 1 < number <= MOST_IMAGES


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["median:3", "resize", "ansm"])
def test_gradients_through_a_defence_repeat_on_a_gpu_and_are_those_of_a_cpu(name: str) -> None:
    def gradient(device: str) -> Tensor:
        defence = load_defence(name, localizer="reference", device=device)
        # sides that an ANSM pads by reflection
        image = (
            torch.rand(2, 3, 37, 41, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
        )
        weights = torch.linspace(-1, 1, image.numel()).view_as(image).to(device)
        with compute_precision("fp32", device):
            loss = (weights * defence.through(image)).sum()
            return torch.autograd.grad(loss, image)[0].cpu()

    first, second = gradient("cuda"), gradient("cuda")
    assert torch.equal(first, second)
    torch.testing.assert_close(first, gradient("cpu"), rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
def test_the_same_run_on_a_gpu_gives_the_same_bytes(run: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(tmp_path / name, device="cuda")
    assert _levels(tmp_path / "one") == ["L1", "L1"]
    for path in (tmp_path / "one").glob("data/*/*.parquet"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
