"""Attacks that know the defence: one network to them, named and recorded, and RP still of the bare localizer."""

import json

import numpy as np
import pytest

from afbench.core import UsageError
from afbench.defences import load_defence
from afbench.localizers import load_localizer
from afbench.metrics import rp
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.scoring.score import score
from afbench.scoring.truth import Cell, open_truth
from afbench.storage.manifests import open_benchmark, read_json, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.verify import verify
from afbench.workflows.adaptive import adaptive_configs, oblivious_configs, put_behind_recorded_defence
from afbench.workflows.evaluation.predict import predict
from afbench.workflows.generation.generate import generate
from afbench.workflows.reporting.preview import preview
from afbench.workflows.request import Options

JPEG = "reference_jpeg_75-fgsm-3"


def made(folder, through=None, *, attacks=("fgsm",), phi="3/255", limit=3, **options):
    settings = tuple(one for name in attacks for one in expand_attack(name, phi=[phi]))
    plan = RunPlan("made", (Block(("reference",), (SourceSpec("demo"),), settings),), 0, limit)
    return generate(plan, folder, Options(through_defence=through, **options))


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """Two configs of the bare localizer, one of it behind JPEG."""
    folder = tmp_path_factory.mktemp("adaptive") / "made"
    made(folder, attacks=("fgsm", "noise"))
    made(folder, "jpeg")
    return folder


@pytest.fixture(scope="module")
def bare():
    return load_localizer("reference")


def rows(folder, config):
    return list(read_rows(folder, shard_paths(open_benchmark(folder).configs[config])))


def test_configs_through_a_defence_are_named_after_it_and_grow_a_benchmark(benchmark):
    found = open_benchmark(benchmark)
    assert list(found.attacked) == ["reference-fgsm-3", "reference-noise-3", JPEG]
    assert oblivious_configs(found, "reference") == ["reference-fgsm-3", "reference-noise-3"]
    assert adaptive_configs(found, "reference", load_defence("jpeg:75")) == [JPEG]
    assert adaptive_configs(found, "reference", load_defence("jpeg:74")) == []
    assert verify(benchmark) == []


def test_the_manifest_says_which_defence_and_how_the_attack_looked_through_it(benchmark):
    how = open_benchmark(benchmark).configs[JPEG].provenance
    assert how["localizer"]["name"] == "reference_jpeg_75" and how["localizer"]["architecture"] == "reference"
    assert how["defence"] == {
        "name": "jpeg",
        "params": {"quality": 75},
        "weights_sha256": "",
        "gradient": "bpda",
        "draws": 1,
        "seed": None,
    }
    assert "defence" not in open_benchmark(benchmark).configs["reference-fgsm-3"].provenance


def test_rows_tell_the_bare_localizer_on_the_original_and_the_defended_one_on_the_attacked(
    benchmark, tmp_path
):
    before = {row["sample_id"]: row["f1_clean"] for row in rows(benchmark, "reference-fgsm-3")}
    assert {row["sample_id"]: row["f1_clean"] for row in rows(benchmark, JPEG)} == before
    predict(benchmark, tmp_path / "out", localizer="reference", defence="jpeg", adaptive=True)
    told = score(tmp_path / "out", benchmark).per_image
    attacked = told[told["config"] == JPEG].set_index("sample_id")
    for row in rows(benchmark, JPEG):
        counts = attacked.loc[row["sample_id"]]
        assert [row[name] for name in ("tp", "fp", "fn", "tn")] == counts[["tp", "fp", "fn", "tn"]].tolist()


def test_images_differ_from_those_of_the_attack_that_knows_nothing(benchmark):
    bare, through = (rows(benchmark, name) for name in ("reference-fgsm-3", JPEG))
    assert [row["original_sha256"] for row in bare] == [row["original_sha256"] for row in through]
    assert all(a["image_sha256"] != b["image_sha256"] for a, b in zip(bare, through, strict=True))
    assert all(row["linf"] <= 3 for row in through)


def test_baselines_of_a_score_stay_those_of_the_bare_localizer(benchmark, tmp_path):
    truth = open_truth(benchmark)
    for row in rows(benchmark, JPEG):
        baseline = truth.cells[Cell("reference_jpeg_75", "demo", JPEG)][row["sample_id"]]
        assert baseline.f1_original == row["f1_clean"] and baseline.counts is None
    predict(benchmark, tmp_path / "out", localizer="reference", defence="jpeg", adaptive=True)
    found = score(tmp_path / "out", benchmark)
    assert found.score["attack_knowledge"] == "adaptive" and found.score["warnings"] == []
    (localizer,) = found.score["aggregates"]
    assert localizer == "reference_jpeg_75"
    table = found.per_image
    mine = table[table["config"] == JPEG]
    now = 2 * mine["tp"] / (2 * mine["tp"] + mine["fp"] + mine["fn"])
    wanted = rp(now.to_numpy(np.float64), mine["f1_original"].to_numpy(np.float64))
    assert found.score["aggregates"][localizer]["micro"]["rp"] == pytest.approx(wanted)
    before = {row["sample_id"]: row["f1_clean"] for row in rows(benchmark, "reference-fgsm-3")}
    assert dict(zip(mine["sample_id"], mine["f1_original"], strict=True)) == before


def test_an_oblivious_prediction_leaves_adaptive_configs_alone_and_the_other_way_round(benchmark, tmp_path):
    for adaptive, configs in (
        (False, ["clean", "reference-fgsm-3", "reference-noise-3"]),
        (True, ["clean", JPEG]),
    ):
        out = tmp_path / str(adaptive)
        predict(benchmark, out, localizer="reference", defence="jpeg", adaptive=adaptive)
        manifest = read_json(out / "manifest.json")
        assert manifest["configs"] == configs
        assert manifest["attack_knowledge"] == ("adaptive" if adaptive else "oblivious")
        assert manifest["localizers"][0]["id"] == ("reference_jpeg_75" if adaptive else "reference")


def test_the_adaptive_column_of_a_leaderboard_is_filled(benchmark, tmp_path, afbench):
    for flag in ((), ("--adaptive",)):
        out = tmp_path / f"out{len(flag)}"
        arguments = ("--data", benchmark, "--localizer", "reference", "--defence", "jpeg", "--out", out)
        assert afbench("predict", *arguments, *flag).code == 0
        assert afbench("score", out, "--data", benchmark, "--out", tmp_path / f"score{len(flag)}").code == 0
    scores = [tmp_path / "score0", tmp_path / "score1"]
    assert afbench("leaderboard", *scores, "--out", tmp_path / "board").code == 0
    board = json.loads((tmp_path / "board" / "leaderboard.json").read_text())
    (ranked,) = [row for table in board["boards"][0]["tables"] for row in table["ranked"]]
    assert (
        ranked["adaptive"]["rp"]
        == json.loads((scores[1] / "score.json").read_text())["aggregates"]["reference_jpeg_75"]["micro"][
            "rp"
        ]
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"defence": "median", "adaptive": True}, "attacked through 'median'.*--through-defence median"),
        ({"defence": "none", "adaptive": True}, "attacked through 'none'"),
    ],
)
def test_a_defence_nobody_attacked_through_is_one_line(benchmark, tmp_path, asked, told):
    with pytest.raises(UsageError, match=told):
        predict(benchmark, tmp_path / "out", localizer="reference", **asked)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("through", "told"),
    [("none", "leave the option out"), ("prayer", "known defences"), ("jpeg:0", "from 1 to 100")],
)
def test_what_cannot_be_attacked_through_is_refused_before_anything_is_written(tmp_path, through, told):
    with pytest.raises(UsageError, match=told):
        made(tmp_path / "out", through)
    assert not (tmp_path / "out").exists()


def test_the_same_command_again_touches_nothing(benchmark):
    stamp = {path: path.stat().st_mtime_ns for path in benchmark.rglob("*") if path.is_file()}
    made(benchmark, "jpeg")
    assert {path: path.stat().st_mtime_ns for path in benchmark.rglob("*") if path.is_file()} == stamp


def test_a_random_defence_is_attacked_alike_in_any_batch_and_its_draws_are_recorded(tmp_path):
    for size in (1, 3):
        made(tmp_path / str(size), "gaussian-noise", batch_size=size, limit=2)
    config = "reference_gaussian_noise_4-fgsm-3"
    alone, together = (rows(tmp_path / str(size), config) for size in (1, 3))
    for one, other in zip(alone, together, strict=True):
        # in float32 another batch may move single levels
        assert abs(one["loss_adv"] - other["loss_adv"]) < 0.02 * abs(one["loss_adv"]) + 1e-3
    told = open_benchmark(tmp_path / "1").configs[config].provenance["defence"]
    assert told["draws"] == 8 and told["seed"] == 0 and told["gradient"] == "exact"


def test_a_preview_looks_through_the_recorded_defence(benchmark, bare):
    sheet = preview(benchmark, configs=[JPEG])
    assert sheet.width > 900
    how = open_benchmark(benchmark).configs[JPEG].provenance
    assert put_behind_recorded_defence(bare, how).defence.label == "jpeg-75"
    elsewhere = {**how, "defence": {**how["defence"], "name": "ansm", "weights_sha256": "0" * 64}}
    assert put_behind_recorded_defence(bare, elsewhere) is None


def test_the_command_makes_them(afbench, tmp_path):
    arguments = ("--localizer", "reference", "--attack", "fgsm", "--phi", "1/255", "--limit", "1")
    ran = afbench("generate", *arguments, "--through-defence", "median", "--out", tmp_path / "out")
    assert ran.code == 0 and "reference_median_3-fgsm-1" in ran.out
    # what evaluate lacks there is an attack on the bare localizer, and the defended one is no name to ask for
    evaluation = afbench(
        "evaluate", "--data", tmp_path / "out", "--localizer", "reference", "--defence", "median"
    )
    assert evaluation.code == 2 and len(evaluation.err.splitlines()) == 1
    assert "only through a defence (reference_median_3); add an attack on the bare one" in evaluation.err
    ran = afbench("generate", *arguments, "--through-defence", "media", "--out", tmp_path / "other")
    assert ran.code == 2 and len(ran.err.splitlines()) <= 2 and "known defences" in ran.err
