"""Executors: what workers are told, who is started again, what is stopped; and local processes."""

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from afbench.cli.generate_command import command
from afbench.core import AfbenchError, PartialError, UsageError
from afbench.failpoints import VARIABLE
from afbench.plans import ATTACKS, Block, RunPlan, SourceSpec, expand_attack, plan_as_json, plan_from_json
from afbench.storage.manifests import TOP
from afbench.work_progress import Progress
from afbench.workflows.executors import local_executor, scale_out
from afbench.workflows.executors.executor import RESTARTS, Executor, JobEnd, run_jobs
from afbench.workflows.executors.executor_spec import ExecutorSpec, read_executor_spec, read_part
from afbench.workflows.executors.job import WorkerJob, job_as_text, job_from_text
from afbench.workflows.executors.scale_out import generate_with_executor
from afbench.workflows.executors.worker import library_versions, run_job
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options, Part

OPTIONS = Options(checkpoint="random", shard_size=1)
SETTINGS = tuple(expand_attack("fgsm", phi=["1/255", "3/255"]))
SLEEPER = (
    "import sys, time; sys.stdin.readline(); print('ready', file=sys.stderr, flush=True); time.sleep(600)"
)
Tree = dict[str, bytes]


@pytest.fixture(scope="module")
def plan(photographs: Path) -> RunPlan:
    return RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), SETTINGS),))


@pytest.fixture
def job(plan: RunPlan, tmp_path: Path) -> WorkerJob:
    return WorkerJob(
        name="worker 0",
        plan=plan,
        options=OPTIONS,
        out=str(tmp_path / "out"),
        part=None,
        folder=str(tmp_path),
        environment={},
        threads=1,
        libraries=library_versions(),
    )


def _tree(out: Path) -> Tree:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in files
        if "log" not in path.relative_to(out).parts
    }


def _executor(ends: Mapping[str, list[JobEnd]], started: list[str]) -> Executor:
    """An executor whose jobs end at once, each time as the list for its name says next."""

    def start(jobs: Sequence[WorkerJob]) -> list[str]:
        started.extend(job.name for job in jobs)
        return [job.name for job in jobs]

    return Executor(start, lambda name: ends[name].pop(0))


def test_a_job_survives_its_way_to_a_worker(job: WorkerJob) -> None:
    settings = tuple(one for name in ATTACKS for one in expand_attack(name))
    blocks = (
        Block(("a", "b"), (SourceSpec("demo"), SourceSpec("folder", "x", "ab")), settings),
        Block(("m:build",), (SourceSpec("demo"),), SETTINGS),
    )
    told = replace(
        job, plan=RunPlan("two", blocks, 7, 3), options=replace(OPTIONS, batch_size=2), part=Part(1, 2)
    )
    assert job_from_text(job_as_text(told)) == told and "\n" not in job_as_text(told)
    back = plan_from_json(json.loads(json.dumps(plan_as_json(told.plan))))
    kinds = [
        [type(value) for one in each.blocks[0].settings for value in one.params.values()]
        for each in (back, told.plan)
    ]
    assert kinds[0] == kinds[1]


def test_a_job_whose_worker_died_is_started_again_but_not_for_ever(job: WorkerJob) -> None:
    dead, good = JobEnd(None, "signal SIGKILL"), JobEnd({"shards": 1})
    said, started = list[str](), list[str]()
    ends = {"a": [dead, good], "b": [dead] * (RESTARTS + 1), "c": [good]}
    jobs = [replace(job, name=name) for name in "abc"]
    done = run_jobs(_executor(ends, started), jobs, at_once=2, say=said.append, watch=lambda: None)
    assert done.reports == [{"shards": 1}, {"shards": 1}]
    assert done.lost == ["b died 4 times (the last: signal SIGKILL)"] and said[-1] == done.lost[0]
    assert said[0] == "a died (signal SIGKILL); starting it again"
    assert [started.count(name) for name in "abc"] == [2, RESTARTS + 1, 1]


@pytest.mark.parametrize(("code", "kind"), [(1, AfbenchError), (2, UsageError), (3, PartialError)])
def test_the_error_of_a_worker_ends_the_run_with_its_exit_code(
    job: WorkerJob, code: int, kind: type[AfbenchError]
) -> None:
    ends = {"worker 0": [JobEnd({"error": "the disk is full", "exit_code": code})]}
    with pytest.raises(AfbenchError, match="worker 0: the disk is full") as caught:
        run_jobs(_executor(ends, []), [job], at_once=1, say=print, watch=lambda: None)
    assert type(caught.value) is kind


def test_a_worker_refuses_other_versions_and_a_machine_without_the_folder(job: WorkerJob) -> None:
    report = run_job(job_as_text(replace(job, libraries={**job.libraries, "torch": "1.0"})))
    assert report["exit_code"] == 2 and "other versions (torch: 1.0 ->" in report["error"]
    report = run_job(job_as_text(replace(job, folder="/nowhere/at/all")))
    assert report["exit_code"] == 2 and "has no '/nowhere/at/all'" in report["error"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--executor", "local", "--workers", "0"), "--workers must be at least 1; found 0"),
        (("--executor", "local"), "--executor local needs --workers N, or --devices"),
        (("--executor", "local", "--devices", "cuda:99"), "device 'cuda:99' does not exist; this machine"),
        (("--executor", "local", "--devices", "toaster"), "--devices must be such as cuda:0,cuda:1"),
        (("--executor", "local", "--devices", ""), "--devices must be such as cuda:0,cuda:1"),
        (("--executor", "local", "--executor-param", "a=1"), "--executor local takes no --executor-param"),
        (("--executor", "cloud"), "'cloud' is not one of 'local', 'ray', 'slurm'"),
        (("--executor", "ray", "--devices", "cuda:0"), "--devices goes with --executor local; ray gives"),
        (("--executor", "ray", "--executor-param", "gpu=1"), "no parameter 'gpu'; its parameters: address"),
        (("--executor", "ray", "--executor-param", "num_gpus"), "--executor-param must be name=value"),
        (
            ("--executor", "ray", "--executor-param", "num_gpus=1", "--executor-param", "num_gpus=2"),
            "gives num_gpus twice: 1 and 2",
        ),
        (("--executor", "ray", "--executor-param", "num_gpus=all"), "num_gpus must be a number"),
        (("--executor", "slurm"), "--executor slurm needs --workers N, the number of jobs"),
        (("--executor", "slurm", "--workers", "2"), "--executor-param timeout_min=MINUTES"),
        (("--workers", "2"), "go with --executor"),
        (("--devices", "cuda:0"), "go with --executor"),
        (("--shard-index", "0"), "--shard-index and --num-shards go together"),
        (("--shard-index", "2", "--num-shards", "2"), "--shard-index must be from 0 to 1; found 2"),
        (("--shard-index", "-1", "--num-shards", "2"), "--shard-index must be from 0 to 1; found -1"),
        (("--shard-index", "0", "--num-shards", "0"), "--num-shards must be at least 1; found 0"),
        (("--shard-index", "0", "--num-shards", "2", "--retry-failed"), "for all shards at once"),
        (
            ("--shard-index", "0", "--num-shards", "2", "--executor", "local", "--workers", "2"),
            "--executor hands out the shards itself",
        ),
    ],
)
def test_an_executor_that_cannot_be_used_is_refused_in_one_line_and_nothing_is_written(
    afbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], told: str
) -> None:
    monkeypatch.setattr("afbench.workflows.executors.executor_spec.find_spec", lambda name: name)
    ran = afbench("generate", "--localizer", "reference", "--attack", "fgsm", "--source", "demo", *arguments)
    assert ran.code == 2 and ran.out == "" and not list(tmp_path.iterdir())
    (line,) = ran.err.splitlines()
    assert line.startswith("afbench: error: ") and told in line


def _refuse(error: Exception) -> Callable[..., Any]:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise error

    return refuse


class _FakeRay(ModuleType):
    """A Ray with room for one worker, whose parts are replaced by those that fail."""

    def __init__(self, **failing: Callable[..., Any]) -> None:
        super().__init__("ray")
        task = SimpleNamespace(options=lambda name: SimpleNamespace(remote=lambda text: text))
        parts: dict[str, Any] = {
            "is_initialized": lambda: False,
            "init": lambda **named: None,
            "cluster_resources": lambda: {"CPU": 1.0},
            "remote": lambda **named: lambda function: task,
            "wait": lambda references, timeout: ([], references),
            "cancel": lambda reference, force: None,
            "shutdown": lambda: None,
        }
        self.__dict__.update(parts | failing)


@pytest.mark.parametrize(
    ("part", "code", "told"),
    [
        # what Ray raises for a raylet that is too slow: no class of its own, several lines
        ("init", 2, "no Ray cluster at 'auto' (Exception: The current node timed out during startup."),
        ("cluster_resources", 2, "the Ray cluster cannot be used (Exception: The current node"),
        ("remote", 2, "the Ray cluster cannot be used (Exception: The current node"),
        ("wait", 1, "the Ray cluster is gone (Exception: The current node"),
    ],
)
def test_a_ray_that_does_not_start_or_ends_is_one_line(
    afbench: Any, photographs: Path, monkeypatch: pytest.MonkeyPatch, part: str, code: int, told: str
) -> None:
    monkeypatch.setattr("afbench.workflows.executors.executor_spec.find_spec", lambda name: name)
    error = Exception("The current node timed out during startup.\nThis could happen because ...")
    shutdown = _refuse(RuntimeError("not connected")) if part == "wait" else lambda: None
    fake = _FakeRay(**{part: _refuse(error), "shutdown": shutdown})
    monkeypatch.setitem(sys.modules, "ray", fake)
    common = ("--localizer", "reference", "--attack", "fgsm", "--source", f"folder:{photographs}")
    ran = afbench("generate", *common, "--out", "out", "--executor", "ray")
    errors = [line for line in ran.err.splitlines() if "error:" in line]
    assert ran.code == code and ran.out == "" and "Traceback" not in ran.err
    assert len(errors) == 1 and errors[0].startswith(f"afbench: error: {told}")


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_package_that_cannot_be_imported_is_one_line(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"--executor {executor} cannot import {package} \(.*Error: "):
        generate_with_executor(ExecutorSpec(executor, 1, (), {"timeout_min": 5}), plan, tmp_path, OPTIONS)


def test_a_worker_process_that_cannot_be_started_is_one_line(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_executor, "_COMMAND", ("/nowhere/python",))
    with pytest.raises(AfbenchError, match=r"worker 0 on cpu does not start.*FileNotFoundError") as caught:
        generate_with_executor(ExecutorSpec("local", 1), plan, tmp_path, OPTIONS)
    assert caught.value.exit_code == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, executor: str, package: str
) -> None:
    monkeypatch.setattr("afbench.workflows.executors.executor_spec.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"needs {package}: pip install 'afbench\[{executor}\]'"):
        read_executor_spec(executor, 2, None, ())


def test_local_workers_take_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    named = ExecutorSpec("local", 3, ("cuda:0", "cuda:1"))
    assert scale_out._worker_devices(named, "cpu") == ["cuda:0", "cuda:1", "cuda:0"]
    assert scale_out._worker_devices(ExecutorSpec("local"), "cuda") == ["cuda:0", "cuda:1"]
    assert scale_out._worker_devices(ExecutorSpec("local", 2), "cuda:1") == ["cuda:1", "cuda:1"]
    with pytest.raises(UsageError, match="'cuda:2' does not exist; this machine shows 2 GPUs"):
        scale_out._worker_devices(ExecutorSpec("local", None, ("cuda:0", "cuda:2")), "cpu")


def test_a_finished_run_starts_nobody(plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(plan, tmp_path, OPTIONS)
    monkeypatch.setattr(local_executor, "_start", None)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    done = generate_with_executor(ExecutorSpec("local", 2), plan, tmp_path, OPTIONS)
    assert done.shards_written == 0 and done.configs == ["reference-fgsm-1", "reference-fgsm-3"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
def test_two_local_workers_one_of_which_dies_make_the_bytes_of_one_process(
    plan: RunPlan, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # a commit made meanwhile must not look like other bytes
    (tmp_path / "mine.py").write_text(
        "from afbench.localizers import load_localizer\n"
        "def build(checkpoint, device):\n"
        "    print('hello')\n"
        "    return load_localizer('reference', 'random', device=device)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sources = (SourceSpec("folder", os.path.relpath(photographs)),)
    plan = replace(plan, blocks=(Block(("mine:build",), sources, SETTINGS),))
    options, starts = replace(OPTIONS, checkpoint=None), []
    generate(plan, Path("serial"), options)
    really = local_executor._start

    def start(job: WorkerJob) -> Any:
        """The first worker dies at its fifth file, before the second starts."""
        with monkeypatch.context() as patch:
            if not starts:
                patch.setenv(VARIABLE, "commit.done=5:kill")
            process = really(job)
        if not starts:
            process.popen.wait()
        starts.append(job.name)
        return process

    monkeypatch.setattr(local_executor, "_start", start)
    said: list[str] = []
    total: list[int] = []
    passes: list[int] = []
    hooks = GenerateHooks(progress=Progress(start=total.append, advance=passes.append, say=said.append))
    done = generate_with_executor(ExecutorSpec("local", 2), plan, Path("local"), options, hooks)
    assert starts == ["worker 0 on cpu", "worker 1 on cpu", "worker 0 on cpu"]
    assert "worker 0 on cpu died (signal SIGKILL: hello); starting it again" in said
    # work that a killed worker had done is done again
    assert total[0] - 2 <= sum(passes) <= total[0] + 2 and total[0] > 3 and done.gradients == 3
    assert _tree(Path("local")) == _tree(Path("serial"))


@pytest.mark.reliability("R1")
def test_whoever_stops_the_command_stops_its_workers(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_executor, "_COMMAND", (sys.executable, "-c", SLEEPER))
    processes: list[Any] = []
    really = local_executor._start
    monkeypatch.setattr(local_executor, "_start", lambda job: processes.append(really(job)) or processes[-1])

    def interrupted(path: Path, hooks: GenerateHooks) -> Callable[[], None]:
        def watch() -> None:
            if all("ready" in local_executor._read(one.errors) for one in processes):
                raise KeyboardInterrupt

        return watch

    monkeypatch.setattr(scale_out, "_follow_log", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_with_executor(ExecutorSpec("local", 2), plan, tmp_path, OPTIONS)
    assert len(processes) == 2 and {one.popen.returncode for one in processes} == {-15}
    assert not (tmp_path / TOP).exists()


@pytest.mark.reliability("R1")
def test_a_worker_ends_with_the_process_that_started_it(
    job: WorkerJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = (
        "import sys, time, types\n"
        "worker = types.ModuleType('afbench.workflows.executors.worker')\n"
        "def run_job(text):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(600)\n"
        "worker.run_job = run_job\n"
        "sys.modules[worker.__name__] = worker\n"
        "from afbench.workflows.executors.worker_process import main\n"
        "main()\n"
    )
    monkeypatch.setattr(local_executor, "_COMMAND", (sys.executable, "-P", "-c", held))
    process = local_executor._start(job)
    while "ready" not in local_executor._read(process.errors):
        assert process.popen.poll() is None
    process.popen.stdin.close()
    assert process.popen.wait(30) == 3 and local_executor._read(process.answer) == ""
    process.answer.close()
    process.errors.close()


def test_reading_what_a_worker_says_does_not_move_where_it_writes() -> None:
    with tempfile.TemporaryFile() as said:
        os.write(said.fileno(), b"ready")
        os.lseek(said.fileno(), 3, os.SEEK_SET)
        assert local_executor._read(said) == "ready" and os.lseek(said.fileno(), 0, os.SEEK_CUR) == 3


def test_workers_that_always_die_leave_a_partial_run_with_their_last_words(
    plan: RunPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail = "import sys; sys.stdin.readline(); sys.exit('CUDA error: no luck')"
    monkeypatch.setattr(local_executor, "_COMMAND", (sys.executable, "-c", fail))
    with pytest.raises(
        PartialError, match=r"3 shards are not made: worker 0 on cpu died 4 times \(the last:.*no luck"
    ):
        generate_with_executor(ExecutorSpec("local", 1), plan, tmp_path, OPTIONS)
    generate(plan, tmp_path, OPTIONS)
    assert (tmp_path / TOP).exists()


def test_the_log_of_two_machines_is_followed_even_where_a_line_is_broken(tmp_path: Path) -> None:
    path, said, passes = tmp_path / "run.jsonl", list[str](), list[int]()
    path.write_text('{"event": "group", "work": 99}\n')
    watch = scale_out._follow_log(
        path, GenerateHooks(progress=Progress(advance=passes.append, say=said.append))
    )
    with path.open("a") as stream:
        stream.write('{"event": "group", "work": 2}\n{"event": "gr{"event": "group"}\n[]\n')
        stream.write('{"event": "said", "line": "excluded x"}\n{"event": "group", "wo')
    watch()
    assert (passes, said) == ([2], ["excluded x"])
    with path.open("a") as stream:
        stream.write('rk": 3}\n')
    watch()
    watch()
    assert passes == [2, 3]


def test_every_command_in_the_document_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "scale-out.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("afbench generate ")]
    monkeypatch.setattr("afbench.workflows.executors.executor_spec.find_spec", lambda name: name)
    for line in commands:
        words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID", "3"))[2:]
        given = command.make_context("generate", words).params
        spec = read_executor_spec(
            given["executor"], given["workers"], given["devices"], given["executor_params"]
        )
        assert bool(spec) != bool(read_part(given["shard_index"], given["num_shards"], spec, OPTIONS))
    assert len(commands) == 8
