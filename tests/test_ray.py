"""Executor ``ray``: a cluster of two nodes on this machine, of which a worker, a node and the driver are killed."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afbench.core import UsageError
from afbench.failpoints import VARIABLE
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.work_progress import Progress
from afbench.workflows.executors import ray_executor
from afbench.workflows.executors.executor_spec import ExecutorSpec
from afbench.workflows.executors.job import WorkerJob, job_as_text
from afbench.workflows.executors.scale_out import generate_with_executor
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import GenerateHooks, Options

pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # a cluster takes long to start

OPTIONS = Options(checkpoint="random", shard_size=1)
SETTINGS = tuple(expand_attack("fgsm", phi=["1/255", "3/255"]))
HELD = "commit.done=6:300000ms"
"""With originals and their record there, and an attack's first shard without one."""
Tree = dict[str, bytes]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs and a node with one."""
    with (
        tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", scratch)  # paths of sockets must be short
        patch.setenv("GIT_DIR", "/nowhere")  # a commit made meanwhile must not look like other bytes
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 80_000_000}
        started = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory}
        )
        started.add_node(num_cpus=1, **memory)
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def plan(photographs: Path) -> RunPlan:
    return RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), SETTINGS),))


@pytest.fixture(scope="module")
def whole(plan: RunPlan, cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The files of a run by one process."""
    out = tmp_path_factory.mktemp("whole")
    generate(plan, out, OPTIONS)
    return _tree(out)


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the first job that is started a fault."""
    faults: list[str] = []

    def told(job: WorkerJob) -> str:
        fault = {VARIABLE: faults.pop()} if faults else {}
        return job_as_text(replace(job, environment={**job.environment, **fault}))

    monkeypatch.setattr(ray_executor, "job_as_text", told)
    return faults.append


def _tree(out: Path) -> Tree:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _spec(cluster: Any, workers: int, **params: Any) -> ExecutorSpec:
    return ExecutorSpec("ray", workers, (), {"address": cluster.address, **params})


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 240
    while not (seen := found()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return seen


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
def test_tasks_one_of_which_is_killed_make_the_bytes_of_one_process(
    cluster: Any, plan: RunPlan, whole: Tree, tmp_path: Path, first: Callable[[str], None]
) -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    first("commit.done=6:kill")
    done = generate_with_executor(
        _spec(cluster, 1), plan, tmp_path, OPTIONS, GenerateHooks(progress=Progress(say=said.append))
    )
    assert len(said) == 1 and "part 0 of 3 died (WorkerCrashedError" in said[0] and "starting it" in said[0]
    assert _tree(tmp_path) == whole and done.gradients == 3
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_cluster_does_not_have_is_said_and_nothing_waits_for_it(
    cluster: Any, plan: RunPlan, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"needs 1 GPU .*and the Ray cluster has 0"):
        generate_with_executor(_spec(cluster, 1, num_gpus=1), plan, tmp_path, OPTIONS)
    with pytest.raises(UsageError, match="no Ray cluster at 'elsewhere'"):
        generate_with_executor(ExecutorSpec("ray", 1, (), {"address": "elsewhere"}), plan, tmp_path, OPTIONS)


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
def test_a_node_that_is_gone_changes_no_byte(
    cluster: Any, plan: RunPlan, whole: Tree, tmp_path: Path, first: Callable[[str], None]
) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
    nodes = [node for node in cluster.list_all_nodes() if node is not cluster.head_node]
    removed: list[Any] = []

    def remove() -> None:
        held = _wait_for(lambda: _stuck(tmp_path, 2))
        (node,) = (one for one in nodes if one.all_processes["raylet"][0].process.pid == _parent(held))
        cluster.remove_node(node, allow_graceful=False)
        removed.append(node)

    first(HELD)
    said: list[str] = []
    other = threading.Thread(target=remove)
    other.start()
    done = generate_with_executor(
        _spec(cluster, 2), plan, tmp_path, OPTIONS, GenerateHooks(progress=Progress(say=said.append))
    )
    other.join()
    assert removed and any("died" in line for line in said)
    assert _tree(tmp_path) == whole and done.gradients <= 3
    if second not in removed:
        cluster.remove_node(second, allow_graceful=False)
        cluster.add_node(num_cpus=1, object_store_memory=80_000_000)


@pytest.mark.reliability("R1")
@pytest.mark.reliability("R12")
def test_a_killed_driver_takes_its_tasks_along_and_the_same_command_goes_on(
    cluster: Any, plan: RunPlan, photographs: Path, whole: Tree, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "afbench", "generate", "--localizer", "reference", "--checkpoint", "random"),
        *("--attack", "fgsm", "--phi", "1/255", "--phi", "3/255", "--source", f"folder:{photographs}"),
        *("--shard-size", "1", "--out", str(out), "--executor", "ray", "--workers", "1"),
        *("--executor-param", f"address={cluster.address}"),
    ]
    environment = {**os.environ, VARIABLE: HELD, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as driver:
        held = _wait_for(lambda: _stuck(out, 0))
        driver.kill()
    _wait_for(lambda: not Path(f"/proc/{held}").exists())
    generate_with_executor(_spec(cluster, 1), plan, out, OPTIONS)
    assert _tree(out) == whole


def _stuck(out: Path, others: int) -> int:
    """The process that is held up in the middle of a shard, once the others have made this many."""
    records = len(list((out / ".afbench").glob("reference-*/*-0000*.json")))
    originals = len(list((out / ".afbench").glob("clean/*-0000*.json")))
    places = [path.name for path in (out / "log").glob("at-work.*") if path.suffix != ".lock"]
    begun = originals == others + 1 and 2 * others <= records < 2 * originals
    return int(places[0].rpartition(".")[2]) if begun and len(places) == 1 else 0
