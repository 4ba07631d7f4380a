"""A benchmark grows: the first samples stay, shard by shard, and what is new lies beside them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.core import UsageError
from afbench.failpoints import VARIABLE
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.plans.effort import shard_size
from afbench.reading.load_pairs import load
from afbench.storage.config_manifest import SplitManifest
from afbench.storage.manifests import TOP, WORK, open_benchmark, read_json
from afbench.storage.verify import verify
from afbench.workflows.generation import generate as generate_module
from afbench.workflows.generation.cuts import GrowthStage, cut_path, cut_stages, stages_of
from afbench.workflows.generation.generate import generate
from afbench.workflows.generation.outcome import Outcome
from afbench.workflows.planning.forecast import forecast_plan
from afbench.workflows.request import Options, Part
from afbench.workflows.rerun.repair import repair
from afbench.workflows.rerun.rescore import rescore

FGSM = expand_attack("fgsm", phi=["1/255", "3/255"])
PGD = expand_attack("pgd", phi=["1/255"], params={"steps": 2})
PGD_CONFIG = f"reference-pgd-{PGD[0].label}"
OPTIONS = Options(checkpoint="random", shard_size=2)


@pytest.fixture(autouse=True)
def _same_software(monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit made while the tests run must not look like other versions."""
    monkeypatch.setattr(generate_module, "software", lambda: {"afbench": "1"})


def _plan(settings: Any, limit: int | None, source: str = "demo", root: Path | None = None) -> RunPlan:
    spec = SourceSpec(source, str(root) if root else None)
    return RunPlan("test", (Block(("reference",), (spec,), tuple(settings)),), limit=limit)


def _run(out: Path, limit: int | None, settings: Any = FGSM, **given: Any) -> Outcome:
    return generate(_plan(settings, limit), out, replace(OPTIONS, **given))


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _shards(tree: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in tree.items() if name.endswith(".parquet")}


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4))
def test_stages_keep_the_cuts_of_those_before_and_hold_every_sample_once(
    steps: list[tuple[int, int]],
) -> None:
    stages: list[GrowthStage] = []
    for more, size in steps:
        stages.append(GrowthStage((stages[-1].samples if stages else 0) + more, size))
    ids = [f"s{number}" for number in range(stages[-1].samples)]
    cuts = cut_stages(ids, stages, {})
    assert [one for cut in cuts for one in cut.ids] == ids
    assert all(len(cut.ids) <= stages[cut.stage].shard_size for cut in cuts)
    before = cut_stages(ids[: stages[-2].samples], stages[:-1], {}) if len(stages) > 1 else []
    assert cuts[: len(before)] == before
    paths = [cut_path("clean", "demo", cut, "parquet") for cut in cuts]
    assert len(set(paths)) == len(paths) and paths[0].startswith("data/clean/demo-00000-of-")
    earlier = [stage._asdict() for stage in stages[:-1]]
    fixed = SplitManifest(**stages[-1]._asdict(), grown_from=earlier)
    assert stages_of(fixed) == stages


def test_a_pilot_grows_and_what_it_held_stays_byte_for_byte(tmp_path: Path) -> None:
    grown_folder = tmp_path / "grown"
    assert _run(grown_folder, 3).gradients == 3
    pilot = _shards(_tree(grown_folder))
    grown = _run(grown_folder, 6)
    assert grown.gradients == 3 and grown.shards_written == 2 * 3 and not grown.shorter
    after = _shards(_tree(grown_folder))
    assert {name: after[name] for name in pilot} == pilot and len(after) == len(pilot) + 6
    part = open_benchmark(grown_folder).configs["clean"].splits["demo"]
    assert part.samples == 6 and part.grown_from == [{"samples": 3, "shard_size": 2}]
    paths = [shard.path.removeprefix("data/clean/demo") for shard in part.shards]
    assert paths == [
        *("-00000-of-00002.parquet", "-00001-of-00002.parquet"),
        *(".grown1-00000-of-00002.parquet", ".grown1-00001-of-00002.parquet"),
    ]
    assert verify(grown_folder, level="deep") == [] and rescore(grown_folder).problems == []
    held = _tree(grown_folder)
    assert _run(grown_folder, 6).shards_written == 0 and _tree(grown_folder) == held
    # a config that comes later is cut the same way, and the folder grows again
    assert _run(grown_folder, 6, PGD).gradients == 6 * 2
    _run(grown_folder, 7, [*FGSM, *PGD])
    assert open_benchmark(grown_folder).configs["clean"].splits["demo"].grown_from[1]["samples"] == 6
    assert verify(grown_folder, level="deep") == []
    whole = tmp_path / "whole"
    generate(_plan([*FGSM, *PGD], 7), whole, OPTIONS)
    for config in ("clean", "reference-fgsm-3", PGD_CONFIG):
        ids = load(grown_folder, config).sample_ids
        assert ids == load(whole, config).sample_ids and len(ids) == 7


def test_rows_that_came_later_load_with_datasets_too(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "out"
    _run(out, 2)
    _run(out, 5)
    for config in ("clean", "reference-fgsm-1"):
        rows = datasets.load_dataset(str(out), config, split="demo", cache_dir=str(tmp_path / "cache"))
        assert rows["sample_id"] == load(out, config).sample_ids and len(rows) == 5


def test_configs_that_nobody_asks_for_stay_and_are_named(afbench: Any, tmp_path: Path) -> None:
    common = ("generate", "--localizer", "reference", "--source", "demo", "--out", "B")
    fgsm, noise = ("--phi", "3/255", "--attack", "fgsm"), ("--phi", "3/255", "--attack", "noise")
    assert afbench(*common, *fgsm, "--attack", "noise", "--limit", "2").code == 0
    ran = afbench(*common, *fgsm, "--limit", "4", "--json")
    assert json.loads(ran.out)["shorter"] == ["reference-noise-3"]
    notice = "'B' holds 2 samples of demo, and grows to 4; with --limit 2 it keeps its size"
    assert ran.err.count(notice) == 1 and ran.err.index(notice) < ran.err.index("1 configs of B cover only")
    assert "1 configs of B cover only its first samples" in ran.err and "reference-noise-3" in ran.err
    assert verify(tmp_path / "B", level="deep") == []
    configs = open_benchmark(tmp_path / "B").configs
    counts = {name: len(load(tmp_path / "B", name)) for name in configs}
    assert counts == {"clean": 4, "reference-fgsm-3": 4, "reference-noise-3": 2}
    # the figures of each config are of its own images
    for name, count in (("reference-fgsm-3", 4), ("reference-noise-3", 2)):
        assert configs[name].splits["demo"].summary["n"] == count
    for command in (
        ("predict", "--data", "B", "--localizer", "reference", "--out", "S"),
        ("score", "S", "--data", "B", "--out", "score"),
        ("evaluate", "--data", "B", "--localizer", "reference"),
        ("stats", "B"),
        ("export", "B", "--to", "webdataset", "--out", "W"),
    ):
        assert afbench(*command).code == 0, command
    score = read_json(tmp_path / "score" / "score.json")
    assert {one["config"]: one["n"] for one in score["configs"]} == counts
    ran = afbench(*common, *noise, "--limit", "4", "--json")
    assert json.loads(ran.out)["shorter"] == [] and json.loads(ran.out)["gradients"] == 0
    assert "it keeps its size" not in ran.err
    assert len(load(tmp_path / "B", "reference-noise-3")) == 4


@pytest.mark.reliability("R1")
@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_stop_at_any_commit_of_a_growth_leaves_the_pilot_and_what_a_resume_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    from afbench import failpoints

    pilot = tmp_path / "pilot"
    _run(pilot, 3)
    shutil.copytree(pilot, tmp_path / "whole")
    _run(tmp_path / "whole", 5)
    whole = _tree(tmp_path / "whole")
    rows, read = len(load(pilot, "reference-fgsm-1")), 0
    for number in range(1, 1000, every):
        out = tmp_path / str(number)
        shutil.copytree(pilot, out)
        with monkeypatch.context() as patch:
            patch.setenv(VARIABLE, f"commit.replace={number}:stop")
            failpoints._reached.clear()
            try:
                _run(out, 5)
                break
            except KeyboardInterrupt:
                pass
        if read_json(out / TOP) == read_json(pilot / TOP) and _manifests(out) == _manifests(pilot):
            read += 1
            assert len(load(out, "reference-fgsm-1")) == rows
            assert (out / "README.md").read_bytes() == (pilot / "README.md").read_bytes()
        # a stop before the first file leaves the pilot as it was, which is whole
        assert bool(list(verify(out))) == (_tree(out) != _tree(pilot)), number
        _run(out, 5)
        assert _tree(out) == whole, number
    assert number > 7 and read


def _manifests(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "manifests").glob("*.json")}


def test_an_unfinished_growth_goes_on_also_for_another_plan(
    tmp_path: Path, on_gradients: Callable[..., None]
) -> None:
    def stop(images: int) -> None:
        raise KeyboardInterrupt

    _run(tmp_path, 2)
    on_gradients(stop)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, 5)
    on_gradients(lambda images: None)
    with pytest.raises(UsageError, match="can grow and not shrink"):
        _run(tmp_path, 2)
    # its originals are there by now, in shards of 2: whoever comes next cuts the same, and finishes what it asks for
    _run(tmp_path, 5, PGD, shard_size=None)
    configs = open_benchmark(tmp_path).configs
    assert {name: len(load(tmp_path, name)) for name in configs} == {
        "clean": 5,
        "reference-fgsm-1": 2,
        "reference-fgsm-3": 2,
        PGD_CONFIG: 5,
    }
    _run(tmp_path, 5)
    assert verify(tmp_path, level="deep") == [] and not (tmp_path / WORK).exists()


def test_a_benchmark_does_not_shrink_and_grows_by_the_same_samples_only(tmp_path: Path) -> None:
    _run(tmp_path / "demo", 4)
    with pytest.raises(
        UsageError, match=r"holds 4 samples of 'demo', and 2 are asked for; a benchmark can grow"
    ):
        _run(tmp_path / "demo", 2)
    generate(_plan(FGSM, 2, "synthetic"), tmp_path / "made", OPTIONS)
    other = replace(_plan(FGSM, 4, "synthetic"), seed=1)
    with pytest.raises(UsageError, match="holds other originals of 'synthetic'"):
        generate(other, tmp_path / "made", OPTIONS)


def test_a_folder_of_files_grows_by_its_index_and_only_while_the_first_files_are_the_same(
    photographs: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(photographs, root)
    out = tmp_path / "out"
    generate(_plan(FGSM, 1, "folder", root), out, OPTIONS)
    shutil.copytree(out, tmp_path / "before")
    assert generate(_plan(FGSM, None, "folder", root), out, OPTIONS).gradients == 2
    assert verify(out, level="deep") == []
    shutil.copy(root / "images" / "photo2.png", root / "images" / "photo0.png")
    with pytest.raises(UsageError, match="holds other originals of 'folder'"):
        generate(_plan(FGSM, None, "folder", root), tmp_path / "before", OPTIONS)


def test_authentic_images_grow_or_stay_by_themselves(tmp_path: Path, picture: Any, save: Any) -> None:
    """A copy with four forged images and two authentic ones, of which a pilot takes one, and then two of each."""
    root = tmp_path / "root"
    mask = np.zeros((32, 32), np.uint8)
    mask[4:20, 8:24] = 255
    forged = [f"Sp_D_NNN_A_nat000{number}_ani000{number}_000{number}" for number in range(4)]
    pictures = {f"Tp/{name}.png": picture(32, 32, seed=number) for number, name in enumerate(forged)}
    pictures |= {f"Au/Au_sec_000{number}.png": picture(32, 32, seed=9 + number) for number in range(2)}
    for path, content in (pictures | {f"Gt/{name}_gt.png": mask for name in forged}).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(save(content, "PNG"))
    options = replace(OPTIONS, authentic=True)
    for limit, size, counts in ((1, 64, (1, 1)), (2, 1, (2, 2)), (4, 2, (4, 2))):
        generate(_plan(FGSM, limit, "casia_v1", root), tmp_path / "out", replace(options, shard_size=size))
        configs = open_benchmark(tmp_path / "out").configs
        found = [configs[name].splits["casia_v1"].samples for name in ("clean", "authentic")]
        assert tuple(found) == counts and verify(tmp_path / "out", level="deep") == []
    assert configs["authentic"].splits["casia_v1"].shard_size == 1


def test_parts_grow_a_folder_together(tmp_path: Path) -> None:
    _run(tmp_path / "parts", 3)
    _run(tmp_path / "whole", 3)
    for index in (0, 1):
        left = generate(_plan(FGSM, 6), tmp_path / "parts", OPTIONS, None, Part(index, 2)).shards_left
    assert left == 0
    _run(tmp_path / "whole", 6)
    assert _tree(tmp_path / "parts") == _tree(tmp_path / "whole")


def test_a_new_stage_is_cut_by_what_is_at_stake_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import afbench.workflows.generation.splits as module

    _run(tmp_path, 2, shard_size=None)
    monkeypatch.setattr(module, "shard_size", lambda seconds, samples: shard_size(60.0, samples))
    _run(tmp_path, 8, shard_size=None)
    part = open_benchmark(tmp_path).configs["clean"].splits["demo"]
    assert (part.grown_from, part.shard_size) == ([{"samples": 2, "shard_size": 64}], 2)
    assert [shard.rows for shard in part.shards] == [2, 2, 2, 2]


def test_shards_that_came_later_are_repaired_and_say_which_versions_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(tmp_path, 2)
    monkeypatch.setattr(generate_module, "software", lambda: {"afbench": "2"})
    _run(tmp_path, 4)
    configs = open_benchmark(tmp_path).configs
    part = configs["reference-fgsm-1"].splits["demo"]
    assert part.software == {"afbench": "1"}
    assert [shard.software for shard in part.shards] == [None, {"afbench": "2"}]
    damaged = [configs[name].splits["demo"].shards[1].path for name in ("clean", "reference-fgsm-1")]
    held = _tree(tmp_path)
    for path in damaged:
        (tmp_path / path).write_bytes(b"damaged")
    assert sorted(repair(tmp_path).repaired) == sorted(damaged) and _tree(tmp_path) == held


def test_a_plan_counts_what_a_growth_still_takes(tmp_path: Path) -> None:
    _run(tmp_path, 2)
    same, more = (forecast_plan(_plan(FGSM, limit), tmp_path).done for limit in (2, 4))
    assert same and (same.configs_done, same.gradients_left) == (2, 0)
    assert more and (more.configs_done, more.configs_left) == (0, 2)
