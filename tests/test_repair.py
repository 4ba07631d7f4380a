"""verify --repair: what is damaged is made again byte for byte, or refused with what differs; verify --deep scores again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afbench.core import PartialError, UsageError
from afbench.files import json_bytes
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.storage.locks import locked
from afbench.storage.manifests import TOP, WORK, read_json
from afbench.storage.shard_format import path_in_format
from afbench.storage.shards import read_rows, write_shard
from afbench.storage.verify import verify
from afbench.workflows.generation.generate import generate
from afbench.workflows.publishing.export import export
from afbench.workflows.request import Options
from afbench.workflows.rerun.recorded_run import LocalizerSource
from afbench.workflows.rerun.repair import repair
from afbench.workflows.rerun.rescore import rescore

SETTINGS = (
    *expand_attack("fgsm", phi=["1/255", "2/255"]),
    *expand_attack("pgd", phi=["1/255", "2/255"], params={"steps": 2}),
    *expand_attack("cw", steps=[2, 3]),
)
SHARDS = "data/{}/folder-0000{}-of-00002.parquet"
CLEAN, FGSM, FGSM_TOO, CW = (
    SHARDS.format(config, 0) for config in ("clean", "reference-fgsm-1", "reference-fgsm-2", "reference-cw-2")
)


@pytest.fixture(scope="module")
def made(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark of random weights and trained ones; not to be changed."""
    out = tmp_path_factory.mktemp("repair") / "made"
    source = (SourceSpec("folder", str(photographs)),)
    generate(
        RunPlan("test", (Block(("reference",), source, SETTINGS),)),
        out,
        Options(checkpoint="random", shard_size=2),
    )
    noise = Block(("reference",), source, tuple(expand_attack("noise", phi=["2/255"])))
    generate(RunPlan("test", (noise,)), out, Options(localizer_name="trained", shard_size=2))
    return out


@pytest.fixture
def bench(made: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(made, tmp_path / "bench"))


@pytest.fixture
def made_hdf5(made: Path, tmp_path: Path) -> Path:
    """The same with HDF5 shards, and with the log, which says how large the batches were."""
    out = tmp_path / "made_hdf5"
    export(made, out, "hdf5-benchmark")
    shutil.copy(made / "log" / "run.jsonl", out / "log")
    return out


def _tree(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in files if path.parent.name != "log"}


def _lose(bench: Path) -> list[str]:
    (bench / FGSM).unlink()
    return [FGSM]


def _flip(bench: Path) -> list[str]:
    data = bytearray((bench / CW).read_bytes())
    data[len(data) // 2] ^= 1
    (bench / CW).write_bytes(data)
    return [CW]


def _swap(bench: Path) -> list[str]:
    one, two = (bench / FGSM).read_bytes(), (bench / FGSM_TOO).read_bytes()
    (bench / FGSM).write_bytes(two)
    (bench / FGSM_TOO).write_bytes(one)
    return [FGSM, FGSM_TOO]


def _cut_all_of_a_shard(bench: Path) -> list[str]:
    cut = list(bench.glob("data/*/folder-00001-*.parquet"))
    for path in cut:
        path.write_bytes(path.read_bytes()[:-9])
    return sorted(str(path.relative_to(bench)) for path in cut)


def _texts(bench: Path) -> list[str]:
    (bench / "README.md").write_text("mine")
    (bench / "LICENSE.md").unlink()
    return ["LICENSE.md", "README.md"]


def _list(bench: Path) -> list[str]:
    (bench / TOP).write_text("{")
    return [TOP]


def _lose_the_list(bench: Path) -> list[str]:
    (bench / TOP).unlink()
    return [TOP]


DAMAGES = (_lose, _flip, _swap, _cut_all_of_a_shard, _texts, _list, _lose_the_list)


@pytest.mark.reliability("R5")
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again_byte_for_byte_and_nothing_else_is_touched(
    bench: Path, made: Path, photographs: Path, damage: Callable[[Path], list[str]]
) -> None:
    before = {path: path.stat().st_ino for path in bench.rglob("*")}
    damaged = damage(bench)
    done = repair(bench, sources={"folder": str(photographs)})
    assert (done.repaired, done.not_repaired) == (damaged, {})
    assert _tree(bench) == _tree(made) and verify(bench, level="deep") == [] and not (bench / WORK).exists()
    touched = {
        str(path.relative_to(bench)) for path in bench.rglob("*") if path.stat().st_ino != before.get(path)
    }
    assert touched <= {*damaged, "log/lock"}


@pytest.mark.reliability("R5")
def test_hdf5_shards_are_made_again_byte_for_byte_too(
    made_hdf5: Path, photographs: Path, tmp_path: Path
) -> None:
    bench = Path(shutil.copytree(made_hdf5, tmp_path / "bench"))
    lost, cut, flipped = (path_in_format(path, "hdf5") for path in (FGSM, CLEAN, CW))
    (bench / lost).unlink()
    (bench / cut).write_bytes((bench / cut).read_bytes()[:-9])
    data = bytearray((bench / flipped).read_bytes())
    data[len(data) // 2] ^= 1
    (bench / flipped).write_bytes(data)
    done = repair(bench, sources={"folder": str(photographs)})
    assert (done.repaired, done.not_repaired) == (sorted([lost, cut, flipped]), {})
    assert _tree(bench) == _tree(made_hdf5) and verify(bench) == []


def test_a_sound_benchmark_is_not_touched(bench: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in bench.rglob("*") if "log" not in path.parts}
    assert repair(bench).repaired == []
    after = {path: path.stat().st_mtime_ns for path in bench.rglob("*") if "log" not in path.parts}
    assert {path for path in before if before[path] != after.get(path)} <= {bench}


def test_files_that_do_not_belong_are_left_and_still_found(bench: Path) -> None:
    (bench / "thesis.tex").write_text("mine")
    assert repair(bench).repaired == []
    assert [problem.path for problem in verify(bench)] == ["thesis.tex"]


def test_a_damaged_config_manifest_is_refused_and_nothing_is_made_from_it(bench: Path) -> None:
    (bench / FGSM).unlink()
    path = bench / "manifests" / "reference-fgsm-1.json"
    path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    done = repair(bench)
    assert list(done.not_repaired) == ["manifests/reference-fgsm-1.json"] and not (bench / FGSM).exists()


def test_originals_without_their_source_are_refused_and_so_is_what_was_made_of_them(bench: Path) -> None:
    for path in (CLEAN, FGSM):
        (bench / path).unlink()
    (bench / CW).unlink()
    refused = repair(bench).not_repaired
    assert "needs its root" in refused[CLEAN] and {refused[FGSM], refused[CW]} == {
        "its originals are damaged, and were not made again"
    }


def test_originals_from_other_files_are_refused(bench: Path, photographs: Path, tmp_path: Path) -> None:
    (bench / CLEAN).unlink()
    other = Path(shutil.copytree(photographs, tmp_path / "other"))
    shutil.copy(other / "images" / "photo2.png", other / "images" / "photo0.png")
    refused = repair(bench, sources={"folder": str(other)}).not_repaired
    assert "came out with other bytes than recorded" in refused[CLEAN] and not (bench / CLEAN).exists()


def test_a_shard_that_comes_out_differently_is_not_stored_and_the_difference_is_said(
    bench: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench / FGSM).unlink()
    newer = {"afbench": "9.9", "commit": None, "libraries": {"torch": "9.9"}}
    monkeypatch.setattr("afbench.workflows.rerun.recorded_run.software", lambda: newer)
    monkeypatch.setattr("afbench.workflows.rerun.regenerate.judge_samples", _judged_otherwise)
    (why,) = repair(bench).not_repaired.values()
    assert "other bytes than recorded" in why and "-> 9.9" in why and "libraries.torch" in why
    assert not (bench / FGSM).exists()


def _judged_otherwise(*asked: Any, **given: Any) -> Any:
    from afbench.engine import judge_samples

    return [replace(one, loss=one.loss + 1) for one in judge_samples(*asked, **given)]


def test_other_weights_are_refused_by_name(bench: Path) -> None:
    path = SHARDS.format("trained-noise-2", 0)
    (bench / path).unlink()
    (why,) = repair(bench, localizer_source=LocalizerSource(checkpoint="random")).not_repaired.values()
    assert "localizer.weights_sha256" in why


def test_an_unfinished_or_foreign_folder_is_refused_and_a_held_one_named(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="is no benchmark"):
        repair(tmp_path)
    monkeypatch.setattr("afbench.storage.locks.WAIT_SECONDS", 0.1)
    with locked(bench), pytest.raises(PartialError, match="is being written by process"):
        repair(bench)
    (bench / WORK / "x").mkdir(parents=True)
    (bench / WORK / "x" / "header.json").write_text("{}")
    for damage in (lambda: None, (bench / TOP).unlink):
        damage()
        with pytest.raises(UsageError, match="not finished"):
            repair(bench)


@pytest.mark.reliability("R13")
def test_what_is_stored_scores_again_as_it_was_scored_when_it_was_made(made: Path) -> None:
    seen: list[int] = []
    done = rescore(made, advance=seen.append)
    assert (done.problems, done.rows, done.left_out) == ([], 7 * 3, {}) and sum(seen) == 7 * 3


@pytest.mark.reliability("R13")
@pytest.mark.parametrize("key", ["tp", "f1_clean"])
def test_a_score_that_is_not_that_of_the_pixels_is_found(bench: Path, key: str) -> None:
    rows = list(read_rows(bench, [CW]))
    rows[0].update({"tp": rows[0]["tp"] + 1, "fn": rows[0]["fn"] - 1} if key == "tp" else {key: 0.987})
    write_shard(bench, CW, "reference-cw-2", rows, ids_sha256="", excluded=[])
    assert {problem.message.split(" is ")[0] for problem in rescore(bench).problems} >= {
        f"{rows[0]['sample_id']}: {key}"
    }


def test_configs_whose_localizer_is_not_at_hand_are_left_out_by_name(bench: Path) -> None:
    path = bench / "manifests" / "trained-noise-2.json"
    manifest = read_json(path)
    manifest["how"]["localizer"]["architecture"] = "mvss"
    path.write_bytes(json_bytes(manifest))
    done = rescore(bench)
    assert (
        done.problems == [] and done.rows == 6 * 3 and "needs the weights" in done.left_out["trained-noise-2"]
    )


def test_the_command_repairs_names_what_is_left_and_answers_programs(afbench: Any, bench: Path) -> None:
    (bench / FGSM).unlink()
    (bench / "extra").write_text("mine")
    ran = afbench("verify", str(bench), "--repair", "--deep")
    assert (
        ran.code == 1 and f"repaired: {FGSM}\n" in ran.out and f"extra: is not listed in {TOP}\n" in ran.out
    )
    (bench / "extra").unlink()
    (bench / FGSM_TOO).unlink()
    told = json.loads(afbench("verify", str(bench), "--repair", "--deep", "--json").out)
    files = len(json.loads((bench / TOP).read_text())["files"])
    assert told == {
        **{"rows": 8 * 3, "files": files, "problems": [], "repaired": [FGSM_TOO], "not_repaired": {}},
        **{"rescored": 7 * 3, "not_rescored": {}},
    }
    assert afbench("verify", str(bench), "--fast", "--deep").code == 2
