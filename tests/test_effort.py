"""Where shards are cut, and what a bar counts, by the cost model."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.core import Stopped, UsageError
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack, settings_by_group
from afbench.plans.cost import SHARD_SIZE, localizer_cost
from afbench.plans.effort import MOST_SHARDS, STAKE_SECONDS, effort_of, shard_size
from afbench.storage.manifests import read_configs
from afbench.storage.run_folder import commit_header, read_header
from afbench.work_progress import Progress, WorkPiece
from afbench.workflows.executors.executor_spec import ExecutorSpec
from afbench.workflows.executors.scale_out import generate_with_executor
from afbench.workflows.generation.generate import generate
from afbench.workflows.generation.run_progress import GradientCounter
from afbench.workflows.generation.splits import open_splits
from afbench.workflows.request import GenerateHooks, Options, Part

MVSS, CW = localizer_cost("mvss"), expand_attack("cw", steps=[50, 250])
FGSM = expand_attack("fgsm", phi=["1/255", "3/255"])


@given(st.floats(0.001, 1e5), st.integers(1, 10**5))
def test_a_shard_takes_two_minutes_or_is_as_small_as_the_number_of_files_allows(
    seconds: float, samples: int
) -> None:
    size = shard_size(seconds, samples)
    least = max(1, -(-samples // MOST_SHARDS))
    assert 1 <= size <= SHARD_SIZE
    assert (
        min(size, samples) * seconds <= 1.001 * STAKE_SECONDS
        or min(size, samples) <= least
        or least > SHARD_SIZE
    )
    assert -(-samples // size) <= MOST_SHARDS or size == SHARD_SIZE


def test_short_runs_keep_the_usual_size_and_long_ones_are_cut_in_equal_parts() -> None:
    assert shard_size(0.5, 120) == shard_size(100.0, 1) == shard_size(0.0, 9) == SHARD_SIZE
    assert (shard_size(5.0, 36), shard_size(500.0, 36)) == (18, 1)
    cpu, gpu = (effort_of(MVSS, 512 * 512, device) for device in ("cpu", "cuda:1"))
    assert shard_size(cpu.of_group(CW), 100) == 1 < shard_size(gpu.of_group(CW), 100) < SHARD_SIZE
    assert effort_of(None, 512 * 512, "cpu").gradient > 0


def _plan(settings: Any, limit: int = 40, localizer: str = "reference") -> RunPlan:
    return RunPlan("test", (Block((localizer,), (SourceSpec("demo"),), tuple(settings)),), limit=limit)


def test_shards_are_cut_by_the_group_that_takes_longest_unless_somebody_says_otherwise(
    tmp_path: Path,
) -> None:
    def size(settings: Any, device: str = "cpu", **given: Any) -> int:
        hooks = GenerateHooks()
        return open_splits(_plan(settings), tmp_path, Options(**given), {}, hooks.index, device)[
            "demo"
        ].shard_size

    long = expand_attack("cw", steps=[500])
    (group,) = settings_by_group(long).values()
    seconds = effort_of(localizer_cost("reference"), 128 * 128, "cpu").of_group(group)
    assert size(FGSM) == size(long, "cuda") == SHARD_SIZE
    assert size(long) == size([*FGSM, *long]) == 20 and 20 * seconds <= STAKE_SECONDS < 40 * seconds
    assert size(long, shard_size=7) == 7
    # whoever comes second cuts as the first, whatever it runs on
    (split,) = open_splits(_plan(long), tmp_path, Options(), {}, GenerateHooks().index, "cpu").values()
    commit_header(tmp_path, "clean.demo", split.identity())
    assert size(FGSM, "cuda") == 20 and size(FGSM, shard_size=7) == 7
    commit_header(tmp_path, "clean.demo", {**split.identity(), "ids_sha256": "of other samples"})
    assert size(FGSM) == SHARD_SIZE


def test_workers_cut_their_shards_as_the_one_who_starts_them(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that starts them takes it that a GPU makes an image in a minute, and a worker's CPU in no time."""
    import afbench.workflows.generation.splits as module

    monkeypatch.setattr(module, "shard_size", lambda seconds, samples: 2)
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), tuple(FGSM)),))
    generate_with_executor(ExecutorSpec("local", 1), plan, tmp_path, Options(checkpoint="random"))
    configs = read_configs(tmp_path)
    assert configs["clean"].splits["folder"].shard_size == 2
    assert [len(one.splits["folder"].shards) for one in configs.values()] == [2, 2, 2]


def test_a_part_that_cuts_elsewhere_is_refused_before_it_mixes_samples(
    photographs: Path, tmp_path: Path
) -> None:
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("folder", str(photographs)),), tuple(FGSM)),))
    generate(plan, tmp_path, Options(checkpoint="random", shard_size=1), None, Part(0, 3))
    header = read_header(tmp_path, "clean.folder")
    assert header is not None
    # as if it had been written by a part that started at the same moment
    commit_header(tmp_path, "clean.folder", {**header, "shard_size": 2})
    with pytest.raises(
        UsageError, match="another one cuts shards elsewhere; give all of them the same --shard"
    ):
        generate(plan, tmp_path, Options(checkpoint="random", shard_size=2), None, Part(1, 2))


def test_work_is_told_in_whole_gradients_and_all_of_it_once() -> None:
    steps: list[int] = []
    progress = GradientCounter(seconds=2.0, advance=steps.append)
    piece = WorkPiece(progress.add, 7.0)
    for seconds in (1.0, 1.0, 3.5, 4.0, 9.0):  # more than there is: a launch was done twice
        piece.add(seconds)
    piece.finish()
    assert steps == [0, 1, 1, 1, 0, 0] and progress.unlogged() == 3 and progress.unlogged() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bar_counts_scoring_and_keeping_beside_gradients_and_ends_full(
    tmp_path: Path, workers: int, on_gradients: Any
) -> None:
    """All that is done after the last gradient is in the total, and what comes before the first one as well."""
    total: list[int] = []
    steps: list[int] = []
    first: list[int] = []
    on_gradients(lambda images: first or first.append(sum(steps)))
    hooks = GenerateHooks(progress=Progress(start=total.append, advance=steps.append))
    settings = [*expand_attack("square", params={"queries": 3}), *FGSM]
    options = Options(checkpoint="random", image_threads=workers)
    done = generate(_plan(settings, limit=8), tmp_path, options, hooks)
    assert done.gradients == 8 < total[0] and total[0] - 1 <= sum(steps) <= total[0]
    assert first[0] >= 8 * 0.5 - 1  # the looks at 8 originals, each half a gradient


def test_a_run_that_is_stopped_before_a_shard_is_begun_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("afbench.workflows.generation.shard_jobs.run_shard", stop)
    with pytest.raises(Stopped, match="0 of 3 shards are committed and kept, 0 gradients of unfinished"):
        generate(_plan(FGSM, limit=2), tmp_path, Options(checkpoint="random"))
