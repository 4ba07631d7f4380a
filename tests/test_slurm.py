"""Executor ``slurm`` with submitit's jobs on this machine."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from afbench.core import UsageError
from afbench.failpoints import VARIABLE
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.work_progress import Progress
from afbench.workflows.executors import scale_out, slurm_executor
from afbench.workflows.executors.executor_spec import ExecutorSpec
from afbench.workflows.executors.job import WorkerJob, job_as_text
from afbench.workflows.executors.scale_out import generate_with_executor
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options

submitit = pytest.importorskip("submitit")

OPTIONS = Options(checkpoint="random", shard_size=1)
SETTINGS = tuple(expand_attack("fgsm", phi=["1/255", "3/255"]))
HERE = ExecutorSpec("slurm", 1, (), {"cluster": "local", "timeout_min": 5})


@pytest.fixture
def plan(photographs: Path) -> RunPlan:
    return RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), SETTINGS),))


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if "log" not in path.relative_to(out).parts
    }


@pytest.mark.slow
@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
def test_jobs_one_of_which_is_killed_make_the_bytes_of_one_process(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # a commit made meanwhile must not look like other bytes
    monkeypatch.setattr(submitit.core.core.Job, "_results_timeout_s", 0)
    faults = [{VARIABLE: "commit.done=6:kill"}]

    def told(job: WorkerJob) -> str:
        return job_as_text(replace(job, environment=faults.pop() if faults else {}))

    monkeypatch.setattr(slurm_executor, "job_as_text", told)
    said: list[str] = []
    done = generate_with_executor(
        HERE, plan, tmp_path / "jobs", OPTIONS, GenerateHooks(progress=Progress(say=said.append))
    )
    generate(plan, tmp_path / "serial", OPTIONS)
    assert said[0].startswith("part 0 of 1 died (job ") and said[0].endswith("; starting it again")
    assert _tree(tmp_path / "jobs") == _tree(tmp_path / "serial") and done.gradients == 3
    logs = [path.name for path in (tmp_path / "jobs" / "log" / "slurm").iterdir()]
    assert any(name.endswith("_log.out") for name in logs) and not any("%" in name for name in logs)


@pytest.mark.slow  # on a machine that is very busy, submitit's local controller has been slower than the deadline
def test_whoever_stops_the_command_stops_its_jobs(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "Resumable", lambda: _asleep)
    monkeypatch.setattr(slurm_executor, "job_as_text", lambda job: str(tmp_path / "process"))

    def interrupted(path: Path, hooks: GenerateHooks) -> Callable[[], None]:
        def watch() -> None:
            if (tmp_path / "process").exists():
                raise KeyboardInterrupt

        return watch

    monkeypatch.setattr(scale_out, "_follow_log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_with_executor(HERE, plan, tmp_path / "out", OPTIONS)
    left = Path("/proc") / (tmp_path / "process").read_text() / "stat"
    until = time.monotonic() + 60
    # a zombie waits for the first process of the machine to notice, and does nothing
    while left.exists() and left.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.05)


def _asleep(place: str) -> None:
    fresh = Path(f"{place}.new")
    fresh.write_text(str(os.getpid()))
    fresh.rename(place)
    signal.pause()


def test_a_preempted_job_is_queued_again_as_it_was() -> None:
    again = slurm_executor.Resumable().checkpoint("the job")
    assert (again.function, again.args) == (slurm_executor.Resumable(), ("the job",))


@pytest.mark.parametrize(("cluster", "folder"), [("slurm", "%j"), ("local", "."), ("debug", ".")])
def test_only_slurm_is_given_a_folder_for_each_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: str, folder: str
) -> None:
    """Submitit's other clusters would also make one that is really called %j."""
    asked = []

    def executor(**options: Any) -> None:
        asked.append(options["folder"])
        raise RuntimeError("stop here")

    monkeypatch.setattr(submitit, "AutoExecutor", executor)
    spec = ExecutorSpec("slurm", 1, (), {"cluster": cluster})
    with (
        pytest.raises(UsageError, match="stop here"),
        slurm_executor.open_slurm_executor(spec, "cpu", tmp_path, 1),
    ):
        pass
    assert asked == [tmp_path / folder]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, "cannot submit jobs"),
        ({"cluster": "elsewhere"}, "cannot submit jobs"),
        ({"cluster": "local", "colour": "red"}, "colour"),
    ],
)
def test_what_submitit_cannot_do_is_one_line(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], told: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    spec = ExecutorSpec("slurm", 1, (), {"timeout_min": 5, **params})
    with pytest.raises(UsageError, match=told) as caught:
        generate_with_executor(spec, plan, tmp_path, OPTIONS)
    assert "\n" not in str(caught.value)


def test_an_sbatch_that_breaks_is_one_line(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(executor: Any, *arguments: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "sbatch")

    monkeypatch.setattr(submitit.AutoExecutor, "submit", broken)
    with pytest.raises(UsageError, match=r"Slurm took no jobs \(FileNotFoundError: .*sbatch") as caught:
        generate_with_executor(HERE, plan, tmp_path, OPTIONS)
    assert "\n" not in str(caught.value)


def test_what_slurm_is_asked_for_and_refuses_is_told(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Slurm that takes no job, and keeps what it was asked."""
    for name, script in (
        ("srun", ""),
        ("sbatch", f'cat "$1" > {tmp_path}/asked; echo "no such partition" >&2; exit 1'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    spec = ExecutorSpec("slurm", 2, (), {"timeout_min": 90, "slurm_partition": "gpu"})
    options = replace(OPTIONS, device="cuda")
    with pytest.raises(UsageError, match=r"Slurm took no jobs \(.*no such partition"):
        generate_with_executor(spec, plan, tmp_path / "out", options)
    asked = (tmp_path / "asked").read_text()
    for line in ("--array=0-1%2", "--gpus-per-node=1", "--partition=gpu", "--time=90", "--job-name=afbench"):
        assert f"#SBATCH {line}\n" in asked, asked
    assert f"#SBATCH --cpus-per-task={torch.get_num_threads()}\n" in asked
