"""What of attacks and of a localizer survives publication, and attacks made to survive it."""

import csv
import json
from xml.etree import ElementTree

import numpy as np
import pytest

from afbench.defences.posting import load_step
from afbench.engine.measure import localize
from afbench.localizers import load_localizer
from afbench.metrics import count_pixels, f1
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reading.load_pairs import load
from afbench.reports.drawing import LIGHT
from afbench.reports.steps_figure import draw_steps, posting_panels
from afbench.storage.manifests import open_benchmark
from afbench.storage.verify import verify
from afbench.workflows.evaluation.evaluate import evaluate
from afbench.workflows.evaluation.evaluation_records import posted_records
from afbench.workflows.evaluation.evaluation_setup import open_evaluation
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

THROUGH = "reference_post_jpeg_75-fgsm-3"
STEPS = ("jpeg:75", "resize:0.75", "chain:social")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    """FGSM on four images, bare and through the posting of JPEG 75."""
    out = tmp_path_factory.mktemp("posting") / "made"
    settings = tuple(expand_attack("fgsm", phi=["3/255"]))
    plan = RunPlan("made", (Block(("reference",), (SourceSpec("demo"),), settings),), 0, 4)
    generate(plan, out, Options())
    generate(plan, out, Options(through_defence="post-jpeg:75"))
    return out


@pytest.fixture(scope="module")
def records(benchmark):
    return posted_records(evaluate(open_evaluation(benchmark, localizer="reference", after=STEPS)))


def posted_f1(benchmark, config, step):
    """F1 of masks found in posted images, computed image by image."""
    localizer, found = load_localizer("reference"), []
    for pair in load(benchmark, config):
        image = (pair["adversarial"].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        ((_, probability, _),) = localize(
            localizer, [image], defence=load_step(step).apply, batch_size=None, device="cpu"
        )
        found.append(f1(count_pixels(probability > localizer.threshold, pair["mask"][0].numpy() > 0.5)))
    return float(np.mean(found))


@pytest.mark.parametrize("step", ["jpeg:75", "resize:0.75"])
def test_originals_and_attacked_images_are_scored_after_a_step(benchmark, records, step):
    for attack, config in (("clean", "clean"), ("fgsm", "reference-fgsm-3")):
        (record,) = (
            row
            for row in records
            if (row["attack"], row["after"], row["knowledge"]) == (attack, step, "oblivious")
        )
        assert record["f1"] == pytest.approx(posted_f1(benchmark, config, step))
        assert record["defence"] == "none" and record["f1_ci"][0] <= record["f1"] <= record["f1_ci"][1]


def test_remaining_performance_is_of_the_originals_as_stored(records):
    (stored,) = (row["f1"] for row in records if (row["attack"], row["after"]) == ("clean", None))
    for row in records:
        if row["attack"] in ("clean", "fgsm"):
            assert row["rp"] == pytest.approx(100 * row["f1"] / stored)


def test_table_csv_and_figure_show_every_step(benchmark, records, afbench, tmp_path):
    out = tmp_path / "E"
    steps = [text for step in STEPS for text in ("--after", step)]
    ran = afbench("evaluate", "--data", benchmark, "--localizer", "reference", "--out", out, "--wide", *steps)
    assert ran.code == 0
    assert json.loads((out / "evaluation.json").read_text())["after"] == json.loads(json.dumps(records))
    for title in (
        "after jpeg:75 F1",
        "--through-post jpeg:75 F1",
        "after resize:0.75 F1",
        "after chain:social F1",
    ):
        assert title in ran.out
    assert "after posting, without a defence" in ran.out
    rows = list(csv.DictReader((out / "after.csv").open()))
    assert {row["defence"] for row in rows} == {
        "none",
        "after jpeg:75",
        "after resize:0.75",
        "after chain:social",
    }
    assert ElementTree.parse(out / "after.svg").getroot().tag.endswith("svg")
    axes = draw_steps(list(posting_panels(records)), "", LIGHT).axes[0]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["as stored", "jpeg:75", "resize:0.75", "chain:social"]
    assert {"FGSM", "attacked through the step"} <= set(axes.get_legend_handles_labels()[1])
    (line,) = (line for line in axes.lines if str(line.get_gid()).endswith(": FGSM"))
    assert list(line.get_ydata()) == [
        row["f1"] for row in records if (row["attack"], row["knowledge"]) == ("fgsm", "oblivious")
    ]
    # figures of defences and gates are as without --after
    assert "after" not in json.dumps(json.loads((out / "evaluation.json").read_text())["figures"])


def test_an_attack_through_a_step_is_recorded_and_reproducible(benchmark, afbench):
    provenance = open_benchmark(benchmark).configs[THROUGH].provenance
    assert provenance["defence"] == {
        "name": "post-jpeg",
        "params": {"quality": 75},
        "weights_sha256": "",
        "gradient": "bpda",
        "draws": 5,
        "seed": None,
    }
    assert verify(benchmark, level="deep") == []
    sample = load(benchmark, THROUGH).sample_ids[0]
    ran = afbench("reproduce", benchmark, "--row", f"{THROUGH}/demo/{sample}")
    assert ran.code == 0, ran.err


def test_the_chain_is_recorded_with_its_recipe(afbench, tmp_path):
    made = (
        "generate",
        "--localizer",
        "reference",
        "--attack",
        "fgsm",
        "--phi",
        "1/255",
        "--limit",
        "1",
        "--out",
        "C",
    )
    assert afbench(*made, "--through-post", "chain:social").code == 0
    (manifest,) = open_benchmark(tmp_path / "C").attacked.values()
    assert manifest.localizer_name == "reference_post_chain_social"
    assert manifest.provenance["defence"]["params"]["recipe"].endswith("JPEG 85, 4:2:0 chroma")
    assert verify(tmp_path / "C", level="deep") == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "--data", "B", "--localizer", "reference", "--after", "chain:lossy"), "posting chain 'chain:lossy' is unknown"),
        (("evaluate", "--data", "B", "--localizer", "reference", "--after", "crop:3"), "posting step 'crop:3' is unknown"),
        (("generate", "--localizer", "reference", "--attack", "fgsm", "--through-post", "jpeg:101"), "the quality of posting step jpeg"),
        (
            ("generate", "--localizer", "reference", "--attack", "fgsm", "--through-post", "jpeg:75", "--through-defence", "jpeg"),
            "--through-post and --through-defence are two attacks",
        ),
    ],
)  # fmt: skip
def test_wrong_steps_end_the_command_before_any_work(benchmark, afbench, arguments, words):
    ran = afbench(*(benchmark if text == "B" else text for text in arguments))
    assert ran.code == 2 and words in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith("afbench: error")]) == 1
