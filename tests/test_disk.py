"""A disk that is too small is found before any work: warned of by plan, refused by generate."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.manifests import WORK, open_benchmark
from afbench.storage.run_folder import free_bytes
from afbench.workflows.executors.executor_spec import ExecutorSpec
from afbench.workflows.executors.scale_out import generate_with_executor
from afbench.workflows.generation.generate import generate
from afbench.workflows.generation.prepare import list_shard_jobs, prepare
from afbench.workflows.request import GenerateHooks, Options

PLAN = ("--localizer", "reference", "--attack", "fgsm", "--phi", "1/255", "--source", "demo", "--limit", "3")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have every disk say that so many bytes are free."""

    def say(count: int) -> None:
        usage = type("Usage", (), {"free": count})
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    return say


def test_what_is_free_is_asked_of_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_generate_refuses_what_cannot_fit_with_both_figures_and_takes_no_gradient(
    afbench: Any, tmp_path: Path, free: Any, on_gradients: Any
) -> None:
    def never(images: int) -> None:
        raise AssertionError("a gradient was taken")

    free(100_000)
    on_gradients(never)
    ran = afbench("generate", *PLAN, "--out", "B")
    assert ran.code == 2 and ran.out == "" and not (tmp_path / "B").exists()
    (line,) = [line for line in ran.err.splitlines() if "error:" in line]
    assert "'B' needs at least 0.1 MB more, and 0.1 MB are free there" in line and "--ignore-disk" in line
    on_gradients(lambda images: None)
    assert afbench("generate", *PLAN, "--out", "B", "--ignore-disk").code == 0


def test_only_what_is_missing_counts(afbench: Any, tmp_path: Path, free: Any) -> None:
    """Twelve images of a plan are there, published or only committed, and there is room for the other three alone."""
    assert afbench("generate", *PLAN, "--out", "B").code == 0
    free(0)
    assert afbench("generate", *PLAN, "--out", "B").code == 0
    more = (*PLAN, "--phi", "2/255", "--out", "B")
    assert afbench("generate", *more).code == 2
    free(70_000)
    assert afbench("generate", *more).code == 0
    plan = RunPlan(
        "test", (Block(("reference",), (SourceSpec("demo"),), (*expand_attack("fgsm"),)),), limit=3
    )
    ready = prepare(plan, tmp_path / "B", Options(), GenerateHooks())
    assert sum(
        unit.bytes_left(tmp_path / "B") for unit in list_shard_jobs(tmp_path / "B", ready)
    ) == pytest.approx(3 * 128 * 128 * 3 * 0.45, rel=0.01)


def test_an_executor_is_refused_before_a_worker_starts(tmp_path: Path, free: Any) -> None:
    from afbench.core import UsageError

    free(1000)
    plan = RunPlan(
        "test", (Block(("reference",), (SourceSpec("demo"),), (*expand_attack("fgsm"),)),), limit=3
    )
    with pytest.raises(UsageError, match=r"needs at least 0\.3 MB more, and 0\.0 MB are free"):
        generate_with_executor(ExecutorSpec("local", 2), plan, tmp_path / "out", Options())
    assert not (tmp_path / "out" / WORK).exists()


def test_plan_warns_and_says_how_much_is_missing(afbench: Any, free: Any) -> None:
    assert "warning" not in afbench("plan", *PLAN).err
    free(1000)
    ran = afbench("plan", *PLAN)
    assert ran.code == 0 and "warning: about 0 MB are missing and about 0 MB are free" in ran.err
    found = json.loads(afbench("plan", *PLAN, "--json").out)
    assert found["missing_bytes"] > found["free_bytes"] == 1000


@pytest.mark.parametrize("source", ["demo", "synthetic"])
def test_a_run_is_never_refused_where_it_would_have_fitted(tmp_path: Path, source: str) -> None:
    plan = RunPlan(
        "test", (Block(("reference",), (SourceSpec(source),), (*expand_attack("fgsm"),)),), limit=4
    )
    ready = prepare(plan, tmp_path, Options(), GenerateHooks())
    least = sum(unit.bytes_left(tmp_path) for unit in list_shard_jobs(tmp_path, ready))
    generate(plan, tmp_path, Options())
    took = sum(
        shard.bytes
        for config in open_benchmark(tmp_path).configs.values()
        for shard in config.splits[source].shards
    )
    assert 0.6 * took < least < took
