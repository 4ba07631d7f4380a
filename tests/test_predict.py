"""Predictions over a benchmark, as a submission: complete, resumable, and of the localizer that was attacked."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from afbench.core import AfbenchError, PartialError, UsageError
from afbench.defences import load_defence
from afbench.files import commit_bytes, sha256_file
from afbench.localizers import load_localizer
from afbench.scoring.problems import InvalidSubmission
from afbench.scoring.score import score
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.workflows.evaluation import predict as workflow
from afbench.workflows.evaluation.predict import predict

CONFIGS = ["clean", "reference-noise-1", "reference-fgsm-2"]


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
    from afbench.workflows.generation.generate import generate
    from afbench.workflows.request import Options

    settings = (*expand_attack("noise", phi=["1/255"]), *expand_attack("fgsm", phi=["2/255"]))
    plan = RunPlan("made", (Block(("reference",), (SourceSpec("demo"),), settings),), 0, 3)
    return generate(plan, tmp_path_factory.mktemp("made") / "made", Options()).folder


def rows(benchmark, config):
    return list(read_rows(benchmark, shard_paths(open_benchmark(benchmark).configs[config])))


def predicted(out, config, sample_id):
    return np.asarray(Image.open(out / "predictions" / "reference" / "demo" / config / f"{sample_id}.png"))


def test_every_image_of_every_config_gets_the_mask_its_counts_were_taken_from(benchmark, tmp_path):
    assert predict(benchmark, tmp_path / "none", localizer="reference").images == 9
    for config in CONFIGS[1:]:
        for row in rows(benchmark, config):
            found = predicted(tmp_path / "none", config, row["sample_id"])
            assert found.dtype == bool
            assert found.sum() == row["tp"] + row["fp"]
    clean = rows(benchmark, "clean")[0]
    assert predicted(tmp_path / "none", "clean", clean["sample_id"]).any()


def test_a_second_call_into_a_folder_is_refused_while_the_first_one_fills_it(benchmark, tmp_path):
    def refused(images):
        with pytest.raises(PartialError, match=r"out' is being written by another process; wait for it"):
            predict(benchmark, tmp_path / "out", localizer="reference")

    assert predict(benchmark, tmp_path / "out", localizer="reference", start=refused).images == 9
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.json", "predictions"}
    assert predict(benchmark, tmp_path / "out", localizer="reference").images == 0


def test_the_manifest_names_what_was_predicted_and_hashes_every_file(benchmark, tmp_path):
    predict(
        benchmark,
        tmp_path / "out",
        localizer="reference",
        defence="jpeg:80",
        display_name="JPEG",
        authors=["A"],
        day="2026-01-02",
    )
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["display_name"] == "JPEG" and manifest["date"] == "2026-01-02"
    assert manifest["defence"]["type"] == "jpeg" and manifest["defence"]["params"] == {"quality": 80}
    assert sorted(manifest["configs"]) == sorted(CONFIGS)
    assert manifest["dataset"]["manifest_sha256"] == sha256_file(benchmark / "MANIFEST.json")
    localizer = load_localizer("reference")
    assert manifest["localizers"] == [{"id": "reference", "weights_sha256": localizer.weights_sha256}]
    files = {
        path.relative_to(tmp_path / "out").as_posix(): sha256_file(path)
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert manifest["files_sha256"] == files and len(files) == 9


def test_an_interrupted_call_goes_on_and_ends_with_the_same_bytes(benchmark, tmp_path, monkeypatch):
    predict(benchmark, tmp_path / "whole", localizer="reference", day="2026-01-02")
    written = []

    def stop(*arguments, **options):
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(arguments)
        return commit_bytes(*arguments, **options)

    monkeypatch.setattr(workflow, "commit_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(benchmark, tmp_path / "cut", localizer="reference", day="2026-01-02")
    assert not (tmp_path / "cut" / "manifest.json").exists()
    monkeypatch.undo()
    # a killed process leaves its temporary file
    Path(f"{written[0][0]}.tmp.node-1.77").write_bytes(b"PN")
    assert predict(benchmark, tmp_path / "cut", localizer="reference", day="2026-01-02").images == 5
    assert predict(benchmark, tmp_path / "cut", localizer="reference", day="2026-01-03").images == 0
    left, right = (
        {path.relative_to(tmp_path / one): path.read_bytes() for path in (tmp_path / one).rglob("*.*")}
        for one in ("whole", "cut")
    )
    assert left == right


def grow(benchmark, folder, limit=3):
    """A copy of the benchmark with one more config."""
    from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
    from afbench.workflows.generation.generate import generate
    from afbench.workflows.request import Options

    shutil.copytree(benchmark, folder)
    blocks = (Block(("reference",), (SourceSpec("demo"),), tuple(expand_attack("fgsm", phi=["3/255"]))),)
    return generate(RunPlan("made", blocks, 0, limit), folder, Options()).folder


@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_benchmark_got_since_is_added_and_named(benchmark, tmp_path, recorded):
    out = tmp_path / "out"
    predict(benchmark, out, localizer="reference", day="2026-01-02")
    if not recorded:  # as submissions were before they told the hashes of their configs
        manifest = json.loads((out / "manifest.json").read_text())
        del manifest["configs_sha256"]
        (out / "manifest.json").write_text(json.dumps(manifest))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    data = grow(benchmark, tmp_path / "grown")
    assert predict(data, out, localizer="reference")[:2] == (3, ("reference-fgsm-3 on demo",))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["configs"] == [*CONFIGS[:1], "reference-fgsm-2", "reference-fgsm-3", "reference-noise-1"]
    assert len(manifest["files_sha256"]) == 12 and score(out, data).score["not_covered"] == []
    assert predict(data, out, localizer="reference")[:2] == (0, ())


def test_a_killed_addition_goes_on(benchmark, tmp_path, monkeypatch):
    out = tmp_path / "out"
    predict(benchmark, out, localizer="reference")
    data = grow(benchmark, tmp_path / "grown")

    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "commit_bytes", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(data, out, localizer="reference")
    monkeypatch.undo()
    with pytest.raises(InvalidSubmission, match="AF001"):
        score(out, data)
    assert predict(data, out, localizer="reference").images == 3
    assert score(out, data).score["rankable"]


def test_images_that_are_others_now_are_not_mixed(benchmark, tmp_path):
    out = tmp_path / "out"
    predict(benchmark, out, localizer="reference")
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["configs_sha256"]["clean"]["demo"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UsageError, match=r"config 'clean' holds other images of source 'demo'.*give another --out"
    ):
        predict(benchmark, out, localizer="reference")


def test_a_folder_of_something_else_is_refused(benchmark, tmp_path):
    predict(benchmark, tmp_path / "out", localizer="reference")
    with pytest.raises(UsageError, match=r"another submission .*defence, display_name, submission_id differ"):
        predict(benchmark, tmp_path / "out", localizer="reference", defence="jpeg")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="holds no submission"):
        predict(benchmark, tmp_path / "mine", localizer="reference")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"localizer": "mvss"}, "no config of localizer 'mvss'; its localizers: reference"),
        ({"localizer": "reference", "checkpoint": "random"}, "give --checkpoint"),
        ({"localizer": "reference", "defence": "jpeg:0"}, "from 1 to 100"),
        ({"localizer": "reference", "defence": "prayer"}, "known defences: none, jpeg"),
    ],
)
def test_what_cannot_be_predicted_is_one_line_and_nothing_is_written(benchmark, tmp_path, asked, told):
    with pytest.raises(UsageError, match=told):
        predict(benchmark, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_probability_maps_are_rounded_and_agree_with_the_masks(benchmark, tmp_path):
    predict(benchmark, tmp_path / "out", localizer="reference", probabilities=True)
    maps = sorted((tmp_path / "out" / "probs").rglob("*.png"))
    assert len(maps) == 9
    for path in maps:
        levels = np.asarray(Image.open(path))
        mask = np.asarray(Image.open(str(path).replace("/probs/", "/predictions/")))
        assert levels.dtype == np.uint8
        assert mask[levels > 128].all() and not mask[levels < 127].any()


def test_jpeg_is_what_pillow_saves_and_none_changes_nothing():
    image = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(0))
    assert load_defence("none").apply(image) is image
    out = load_defence("jpeg:50").apply(image)
    assert out.shape == image.shape and out.min() >= 0 and out.max() <= 1
    assert 0.01 < (out - image).abs().mean() < 0.3
    assert torch.equal(load_defence("jpeg:50").apply(image[1:])[0], out[1])
    assert load_defence("jpeg").label == "jpeg-75"


def test_the_command_says_what_comes_next(afbench, benchmark):
    ran = afbench("predict", "--data", benchmark, "--localizer", "reference", "--out", "out")
    assert ran.code == 0 and "9 images localized" in ran.out and "afbench score out" in ran.out
    ran = afbench("predict", "--data", "nowhere", "--localizer", "reference", "--out", "other")
    assert ran.code == 2 and ran.err.count("\n") == 1


def test_a_benchmark_whose_names_lead_out_of_the_submission_is_refused(benchmark, tmp_path, monkeypatch):
    real = workflow.read_shards

    def renamed(*arguments):
        return ({**row, "sample_id": "../../../outside"} for row in real(*arguments))

    monkeypatch.setattr(workflow, "read_shards", renamed)
    with pytest.raises(AfbenchError, match="leaves its folder"):
        predict(benchmark, tmp_path / "deep" / "er" / "out", localizer="reference")
    assert not list(tmp_path.rglob("outside*"))
