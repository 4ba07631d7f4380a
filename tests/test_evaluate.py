"""One pass over a benchmark against predict and score, the tables it makes, and the gates."""

import csv
import io
import json
import math
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from afbench.core import AfbenchError, UsageError
from afbench.defences import load_defence
from afbench.engine import compute_precision
from afbench.localizers.reference import ReferenceLocalizer
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reports.evaluation import columns_of, evaluation_csv, evaluation_latex, evaluation_table
from afbench.reports.gate_table import gate_table
from afbench.reports.image_table import shown_score
from afbench.scoring.score import score
from afbench.storage.config_manifest import ConfigManifest
from afbench.storage.manifests import shard_paths
from afbench.storage.shards import read_rows
from afbench.workflows.attack_records import ADAPTIVE, OBLIVIOUS, Side
from afbench.workflows.evaluation import gates as gates_workflow
from afbench.workflows.evaluation import logit_scale
from afbench.workflows.evaluation import predict as predict_workflow
from afbench.workflows.evaluation.config_gates import gates_of_benchmark
from afbench.workflows.evaluation.evaluate import Evaluation, evaluate
from afbench.workflows.evaluation.evaluation_figure import evaluation_figure
from afbench.workflows.evaluation.evaluation_records import evaluation_records
from afbench.workflows.evaluation.evaluation_setup import Evaluations, open_evaluation, require_own_score
from afbench.workflows.evaluation.gates import sweep_gates
from afbench.workflows.evaluation.image_records import image_records
from afbench.workflows.evaluation.logit_scale import ScaledLocalizer, scale_gates, scale_warnings
from afbench.workflows.evaluation.predict import predict
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

DEFENCES = ("jpeg", "gaussian-noise")
DEMO = SourceSpec("demo")


def make(folder, attacks, through=None, *, sources=(DEMO,), limit=3, **options):
    settings = tuple(one for name, given in attacks for one in expand_attack(name, **given))
    plan = RunPlan("made", (Block(("reference",), sources, settings),), 0, limit)
    generate(plan, folder, Options(through_defence=through, **options))
    return folder


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    """A list of forged images of two sizes, and of authentic ones."""
    root = tmp_path_factory.mktemp("own")
    random = np.random.default_rng(0)
    for folder in ("images", "masks", "authentic"):
        (root / folder).mkdir()
    for number, size in enumerate(((48, 64), (64, 64), (48, 64))):
        image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, np.uint8)
        mask[8:24, 8 : 24 + number] = 255
        Image.fromarray(image).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        Image.fromarray(image[::-1].copy()).save(root / "authentic" / f"a{number}.png")
    pairs = [[f"images/{number}.png", f"masks/{number}.png"] for number in range(3)]
    pairs += [[f"authentic/a{number}.png", "Negative"] for number in range(3)]
    (root / "list.json").write_text(json.dumps(pairs))
    return root / "list.json"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory, forged):
    """Two sources, authentic images, two attacks, and one of them through JPEG; no noise control."""
    out = tmp_path_factory.mktemp("evaluate") / "made"
    sources = (DEMO, SourceSpec("list", str(forged)))
    fgsm = ("fgsm", {"phi": ["1/255", "3/255"]})
    make(out, [fgsm, ("cw", {"steps": [2, 5]})], sources=sources, authentic=True)
    return make(out, [("fgsm", {"phi": ["3/255"]})], "jpeg", sources=sources, authentic=True)


@pytest.fixture(scope="module")
def opened(benchmark):
    return open_evaluation(benchmark, localizer="reference", defences=DEFENCES)


@pytest.fixture(scope="module")
def found(opened):
    return evaluate(opened)


@pytest.fixture(scope="module")
def records(found):
    return evaluation_records(found)


def pick(records, **wanted):
    (one,) = [row for row in records if wanted.items() <= row.items()]
    return one


@pytest.mark.parametrize("defence", ["none", *DEFENCES])
def test_counts_are_those_of_predict_and_score(benchmark, found, tmp_path, defence):
    label = load_defence(defence).label
    for adaptive in (False, True) if defence == "jpeg" else (False,):
        out = tmp_path / str(adaptive)
        predict(benchmark, out, localizer="reference", defence=defence, adaptive=adaptive)
        wanted = score(out, benchmark).per_image
        knowledge = ADAPTIVE if adaptive else OBLIVIOUS
        (side,) = [one for one in found.sides if (one.defence, one.knowledge) == (label, knowledge)]
        keys = ["localizer", "source", "config", "sample_id"]
        mine = side.per_image[side.per_image["attack"] != "noise"].sort_values(keys, ignore_index=True)
        # an adaptive submission has masks of the originals, too
        wanted = wanted[wanted["config"].isin(mine["config"])].sort_values(keys, ignore_index=True)
        # a submission of masks says nothing of probabilities
        scores = ["image_max", "image_top1", "image_own"]
        assert mine[scores[:2]].notna().all(axis=None) and wanted[scores].isna().all(axis=None)
        pd.testing.assert_frame_equal(mine.drop(columns=scores), wanted.drop(columns=scores))


def test_figures_are_those_of_the_score(benchmark, records, tmp_path):
    predict(benchmark, tmp_path / "out", localizer="reference", defence="jpeg")
    told = score(tmp_path / "out", benchmark).score["aggregates"]["reference"]["per_attack"]
    for attack in ("clean", "fgsm", "cw"):
        row = pick(records, source="all", attack=attack, defence="jpeg-75", knowledge=OBLIVIOUS)
        for name in ("f1", "rp", "f1_ci", "rp_ci"):
            assert row[name] == told[attack][name]
    row = pick(records, source="all", attack="authentic", defence="jpeg-75", knowledge=OBLIVIOUS)
    assert row["fpr"] == told["clean"]["fpr"] and row["images"] == told["clean"]["n_authentic"] == 6


def test_images_as_a_whole_are_told_apart_before_and_after_the_attack(found, benchmark, tmp_path):
    figures = image_records(found)
    assert {row["score"] for row in figures} == {"share", "max", "top1"}
    assert {row["source"] for row in figures} == {"demo", "list", "all"}
    adaptive = [row for row in figures if row["knowledge"] == ADAPTIVE]
    assert {(row["defence"], row["attack"]) for row in adaptive} == {("jpeg-75", "fgsm")}
    # attacks leave authentic images alone: all rows of a side and a score have one false-positive rate
    rates = {}
    for row in figures:
        rates.setdefault((row["defence"], row["source"], row["score"]), set()).add(row["fpr"])
        assert row["images"] == row["authentic"] == (6 if row["source"] == "all" else 3)
    assert all(len(values) == 1 for values in rates.values())
    predict(benchmark, tmp_path / "out", localizer="reference", defence="jpeg")
    shares = [row for row in figures if row["score"] == "share" and row["defence"] == "jpeg-75"]
    for row in score(tmp_path / "out", benchmark).score["image_level"]:
        assert (
            row.items()
            <= pick(shares, attack=row["attack"], source=row["source"], knowledge=OBLIVIOUS).items()
        )


def test_a_localizers_own_score_of_images_is_reported_and_checked(benchmark, monkeypatch):
    setup = open_evaluation(benchmark, localizer="reference")
    with pytest.raises(UsageError, match="own is not known here; reference gives no score of whole images"):
        require_own_score(Evaluations([setup], [], []), "own")
    monkeypatch.setattr(
        ReferenceLocalizer, "image_score", lambda self, image: image.mean((1, 2, 3)), raising=False
    )
    require_own_score(Evaluations([setup], [], []), "own")
    figures = image_records(evaluate(setup))
    assert {row["threshold"] for row in figures if row["score"] == "own"} == {0.5}
    assert shown_score(figures) == "own"
    for wrong in (lambda self, image: image.mean((1, 2)), lambda self, image: image.sum((1, 2, 3))):
        monkeypatch.setattr(ReferenceLocalizer, "image_score", wrong)
        with pytest.raises(UsageError, match="image_score of the localizer must give one number from 0 to 1"):
            evaluate(setup)


def test_originals_are_a_hundred_percent_without_a_defence_and_rp_refers_to_them_behind_one(records):
    assert pick(records, source="demo", attack="clean", defence="none")["rp"] == pytest.approx(100)
    bare = pick(records, source="demo", attack="clean", defence="none")["f1"]
    behind = pick(records, source="demo", attack="fgsm", defence="jpeg-75", knowledge=OBLIVIOUS)
    assert behind["rp"] == pytest.approx(100 * behind["f1"] / bare)
    assert behind["settings"] == 2 and behind["images"] == 3


def test_all_ones_and_random_noise_are_always_there(records, found, benchmark):
    chance = pick(records, source="demo", attack="all-ones")
    rows = found.all_ones[(found.all_ones["source"] == "demo") & (found.all_ones["config"] == "clean")]
    wanted = (2 * rows["tp"] / (2 * rows["tp"] + rows["fp"])).mean()
    assert (rows["fn"] == 0).all() and chance["f1"] == pytest.approx(wanted)
    for defence in ("none", "jpeg-75"):
        assert 0 <= pick(records, source="demo", attack="noise", defence=defence)["f1"] <= 1


def test_the_noise_control_is_what_generate_would_have_made(benchmark, found, tmp_path):
    stored = make(tmp_path / "noise", [("noise", {"phi": ["3/255"]})])
    again = evaluate(open_evaluation(stored, localizer="reference", defences=["jpeg"]))
    for number in (0, 1):
        made, read = (one.sides[number].per_image for one in (found, again))
        columns = ["sample_id", "tp", "fp", "fn", "tn", "f1_original", "f1_undefended"]
        made, read = (
            one[(one["source"] == "demo") & (one["attack"] == "noise")][columns].reset_index(drop=True)
            for one in (made, read)
        )
        assert len(made) == 3
        pd.testing.assert_frame_equal(made, read)


def test_each_image_is_decoded_once_however_many_defences_look(benchmark, monkeypatch):
    seen = []
    real = predict_workflow.stored_picture
    monkeypatch.setattr(predict_workflow, "stored_picture", lambda *row: seen.append(row) or real(*row))
    started, done = [], []
    opened = open_evaluation(benchmark, localizer="reference", defences=["bit-depth", "jpeg", "resize"])
    evaluate(opened, start=started.append, advance=done.append)
    # 6 originals, 6 authentic, 4 oblivious configs and an adaptive one of 6 each
    assert len(seen) == 6 + 6 + 5 * 6
    assert started == [len(seen) + 6] and sum(done) == started[0]


def test_each_image_passes_the_network_once_for_each_side(benchmark, monkeypatch):
    passes = []
    logits = ReferenceLocalizer.logits
    monkeypatch.setattr(
        ReferenceLocalizer, "logits", lambda self, image: passes.append(len(image)) or logits(self, image)
    )
    evaluate(open_evaluation(benchmark, localizer="reference", defences=["jpeg"]))
    # 6 originals, 6 authentic, 6 of noise, 4 oblivious configs of 6, bare and behind JPEG; an adaptive one behind JPEG alone
    assert sum(passes) == 2 * (6 + 6 + 6 + 4 * 6) + 6


def test_sides_without_adaptive_configs_have_no_columns(records):
    table = evaluation_table(records)
    assert [tuple(one) for one in columns_of(records)] == [
        ("none", "oblivious"),
        ("jpeg-75", "oblivious"),
        ("jpeg-75", "adaptive"),
        ("gaussian-noise-4", "oblivious"),
    ]
    lines = table.splitlines()
    fgsm = next(line.split() for line in lines if line.split()[:2] == ["demo", "FGSM"])
    assert len(fgsm) == 3 + 2 * 4 and "-" not in fgsm
    assert [line for line in lines if "authentic (FPR %)" in line and line.startswith("list")]
    assert "note: demo FGSM, jpeg-75 adaptive: 1 of 2 settings" in lines


def test_a_label_stands_apart_from_what_the_network_is(records):
    """Reference under the name of a published network is never printed as that network."""
    called = [{**one, "localizer": "mvss"} for one in records]
    weights = records[0]["weights_sha256"]
    assert records[0]["architecture"] == "reference" and len(weights) == 64
    for text in (evaluation_latex(called), evaluation_table(called)):
        assert "MVSS" not in text and f"localizer 'mvss': network reference, weights {weights[:12]}" in text
    assert evaluation_latex(called).startswith("% F1, and RP") and "\n% localizer 'mvss'" in evaluation_latex(
        called
    )
    (row, *_) = csv.DictReader(io.StringIO(evaluation_csv(called)))
    assert row["model"] == "reference 'mvss'"
    assert (row["localizer"], row["architecture"], row["weights_sha256"]) == ("mvss", "reference", weights)
    published = [{**one, "localizer": "mvss", "architecture": "mvss"} for one in records]
    assert next(csv.DictReader(io.StringIO(evaluation_csv(published))))["model"] == "MVSS-Net"


def test_latex_of_several_localizers_is_one_table(records):
    others = [
        {**one, "localizer": "code", "architecture": "code", "defence": one["defence"].replace("jpeg-75", "ansm-ab12cd")}
        for one in records
    ]  # fmt: skip
    first = [{**one, "defence": one["defence"].replace("jpeg-75", "ansm-0000aa")} for one in records]
    text = evaluation_latex([*first, *others], ["a warning"])
    assert text.count("tabular}") == 2 and "% ansm-0000aa is ansm" in text and "% a warning" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows[1:]} == {2 + 2 * 4}
    assert (
        rows[0].count("ansm") == 2
        and "ansm-" not in rows[0]
        and rows[1].startswith("Localizer & Dataset & Attack")
    )
    assert (
        sum(line.startswith("CoDE & ") for line in rows)
        == 3
        == sum(line.startswith("reference & ") for line in rows)
    )
    tables = evaluation_table([*first, *others]).split("\n\n")
    assert (
        len(tables) == 2 and "localizer 'code': network code" in tables[1] and "ansm-ab12cd F1" in tables[1]
    )


def test_rp_of_a_localizer_that_finds_nothing_is_marked(records):
    def weakened(f1):
        return [
            {**one, "f1": f1} if (one["attack"], one["defence"]) == ("clean", "none") else one
            for one in records
        ]

    assert not any(one["finds_nothing"] for one in records if one["source"] == "demo")
    rows = {
        f1: next(
            line.split()
            for line in evaluation_table(weakened(f1)).splitlines()
            if line.split()[:2] == ["demo", "FGSM"]
        )
        for f1 in (0.9, 0.001, 0.0001)
    }
    assert not rows[0.9][4].endswith("!") and rows[0.001][4] == rows[0.9][4] + "!" and rows[0.0001][4] == "-"


def test_the_csv_has_a_row_per_figure_and_reads_back(records):
    rows = list(csv.DictReader(io.StringIO(evaluation_csv(records))))
    assert len(rows) == len(records)
    assert list(rows[0])[:3] == ["model", "dataset", "attack"]
    (one,) = [
        row
        for row in rows
        if (row["dataset"], row["attack"], row["defence"], row["knowledge"])
        == ("demo", "C&W", "jpeg-75", "oblivious")
    ]
    wanted = pick(records, source="demo", attack="cw", defence="jpeg-75")
    assert float(one["f1"]) == pytest.approx(wanted["f1"], rel=1e-5)
    assert float(one["rp_high"]) == pytest.approx(wanted["rp_ci"][1], rel=1e-5)


def test_the_latex_is_a_table_whose_rows_all_have_as_many_cells(records):
    text = evaluation_latex(records)
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in body[1:]} == {1 + 2 * len(columns_of(records))}
    assert r"C\&W" in text and "C&W" not in text and text.count("\\midrule") == 3
    odd = [{**records[0], "source": "my_data", "localizer": "a_b"}]
    assert r"my\_data" in evaluation_latex(odd)


def frames(values, *, attack="pgd", steps=10, f1_original=1.0):
    """Rows whose F1 are given: 100 forged pixels, of which tp are found and nothing else."""
    return pd.DataFrame(
        [
            {
                "localizer": "l", "source": "s", "config": f"{attack}-{steps}", "attack": attack, "phi": math.nan if attack == "cw" else 3 / 255,
                "steps": steps, "sample_id": str(number), "tp": int(200 * value / (2 - value) / 2), "fp": 0,
                "fn": 100 - int(200 * value / (2 - value) / 2), "tn": 100, "f1_original": f1_original, "f1_undefended": 0.5,
            }
            for number, value in enumerate(values)
        ]
    )  # fmt: skip


def judged(*sides, configs=MappingProxyType({})):
    return gates_of_benchmark(Evaluation(None, "l", [Side(*one) for one in sides], frames([0.5])), configs)


def test_an_adaptive_attack_that_leaves_more_than_an_oblivious_one_fails():
    low, high = frames([0.2, 0.3, 0.25, 0.3]), frames([0.7, 0.8, 0.75, 0.9])
    (broken,) = judged(("jpeg-75", OBLIVIOUS, low), ("jpeg-75", ADAPTIVE, high))
    (sound,) = judged(("jpeg-75", OBLIVIOUS, high), ("jpeg-75", ADAPTIVE, low))
    assert broken.passed is False and sound.passed is True
    assert "0.783 -> 0.256" in sound.detail and "[" in sound.detail
    (unsure,) = judged(
        ("jpeg-75", OBLIVIOUS, frames([0.2, 0.9, 0.4])), ("jpeg-75", ADAPTIVE, frames([0.9, 0.2, 0.5]))
    )
    assert unsure.passed is True


def test_a_defence_nobody_attacked_is_not_called_safe():
    (nothing,) = judged(("jpeg-75", OBLIVIOUS, frames([0.9])))
    assert nothing.passed is None and "no attack went through it" in nothing.detail
    (apart,) = judged(
        ("jpeg-75", OBLIVIOUS, frames([0.9])), ("jpeg-75", ADAPTIVE, frames([0.1], attack="fgsm", steps=1))
    )
    assert apart.passed is None and "same setting" in apart.detail


def test_more_steps_that_help_the_defender_fail_where_the_attack_knows_what_it_attacks():
    rising = pd.concat([frames([0.1] * 4, attack="cw", steps=50), frames([0.4] * 4, attack="cw", steps=100)])
    falling = pd.concat([frames([0.4] * 4, attack="cw", steps=50), frames([0.1] * 4, attack="cw", steps=100)])
    (bare,) = judged(("none", OBLIVIOUS, rising))
    assert bare.passed is False and "cw, 50 to 100 steps" in bare.detail
    assert [one.passed for one in judged(("none", OBLIVIOUS, falling))] == [True]
    told = [one.name for one in judged(("jpeg-75", OBLIVIOUS, rising))]
    assert "more steps never help the defender" not in told


def test_gates_compare_attacks_with_the_same_loss_alone():
    """10 steps of the cross-entropy leave more than 3 of soft-F1, and that is no fault of an attack."""
    steps_3, steps_10 = frames([0.0] * 4, attack="bim", steps=3), frames([0.4] * 4, attack="bim", steps=10)
    other_loss = steps_10.assign(config="other-loss", **{name: steps_3[name] for name in ("tp", "fn")})
    params = {"bim-3": {"loss": "soft-f1", "steps": 3}, "bim-10": {"steps": 10}, "other-loss": {"loss": "js"}}
    configs = {
        name: ConfigManifest(config=name, splits={}, provenance={"attack": "bim", "params": values})
        for name, values in params.items()
    }
    assert judged(("none", OBLIVIOUS, pd.concat([steps_3, steps_10])), configs=configs) == []
    (apart,) = judged(("x", OBLIVIOUS, other_loss), ("x", ADAPTIVE, steps_10), configs=configs)
    assert apart.passed is None and "no attack of the same setting" in apart.detail
    configs["bim-10"] = configs["bim-3"]
    (gate,) = judged(("none", OBLIVIOUS, pd.concat([steps_3, steps_10])), configs=configs)
    assert gate.passed is False and gate.detail.startswith("bim 3/255 loss=soft-f1, 3 to 10 steps: ")


def test_one_image_has_a_tolerance_instead_of_an_interval():
    (near,) = judged(("x", OBLIVIOUS, frames([0.5])), ("x", ADAPTIVE, frames([0.51])))
    (far,) = judged(("x", OBLIVIOUS, frames([0.5])), ("x", ADAPTIVE, frames([0.6])))
    assert near.passed is True and far.passed is False and "on 1 image" in far.detail


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(gates_workflow, "SWEEP_STEPS", (1, 2))
    monkeypatch.setattr(gates_workflow, "SWEEP_PHI", (32,))


def test_the_sweep_checks_steps_phi_and_gradients_of_every_defence(benchmark, quick, monkeypatch):
    precisions = []

    def asked_precision(*arguments, **options):
        precisions.append((*arguments, *options.items()))
        return compute_precision(*arguments, **options)

    monkeypatch.setattr(gates_workflow, "compute_precision", asked_precision)
    opened = open_evaluation(benchmark, localizer="reference", defences=["resize", "jpeg"])
    started, done = [], []
    found = sweep_gates(opened, images=1, start=started.append, advance=done.append)
    assert [one.defence for one in found] == [
        name for name in ("none", "resize-0.75", "jpeg-75") for _ in range(3)
    ]
    assert set(precisions) == {("fp32", "cpu", ("deterministic", False))}
    assert started == [3 * 1 * 2 * (1 + 2 + 2)] and sum(done) == started[0]
    assert all(f"({loss})" in gate.detail for gate in found[:2] for loss in ("bce", "soft-f1"))
    slopes = [one for one in found if "finite differences" in one.name]
    assert [one.passed for one in slopes] == [True, True, None] and "BPDA" in slopes[2].detail
    table = gate_table([vars(one) for one in found])
    assert len(table.splitlines()) == 9 and table.startswith("pass  none")


def test_a_gradient_that_is_wrong_or_masked_fails(benchmark, opened):
    (sample,) = gates_workflow.first_samples(opened, 1)
    network, none = opened.localizer, load_defence("none")

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, image):
            return image.clone()

        @staticmethod
        def backward(ctx, slope):
            return 2 * slope

    assert gates_workflow._slope(network, none, sample, "cpu").passed is True
    wrong = replace(none, apply=Doubled.apply)
    assert gates_workflow._slope(network, wrong, sample, "cpu").passed is False
    masked = replace(none, apply=lambda image: image * 0 + image.detach())
    told = gates_workflow._slope(network, masked, sample, "cpu")
    assert told.passed is False and "length 0" in told.detail


def test_a_gradient_that_one_loss_alone_shows_to_be_wrong_fails(opened, monkeypatch):
    (sample,) = gates_workflow.first_samples(opened, 1)
    losses = gates_workflow.image_loss

    def doubled_gradient(localizer, mask, name):
        loss = losses(localizer, mask, name)
        return lambda image: 2 * loss(image) - loss(image).detach() if name == "soft-f1" else loss(image)

    monkeypatch.setattr(gates_workflow, "image_loss", doubled_gradient)
    gate = gates_workflow._slope(opened.localizer, load_defence("none"), sample, "cpu")
    assert gate.passed is False and gate.detail.startswith("bce: ") and "; soft-f1: " in gate.detail


def test_a_defence_whose_gradient_leads_nowhere_fails_the_gate_of_large_phi(benchmark, quick, monkeypatch):
    """Masked gradients leave the image as it is, and so the figures high: what the gate is for."""
    masked = replace(load_defence("none"), label="masked", apply=lambda image: image * 0 + image.detach())
    opened = replace(open_evaluation(benchmark, localizer="reference"), purifiers=[masked])
    _, phi, _ = sweep_gates(opened, images=2)
    assert phi.passed is False and "at 32/255" in phi.detail


@pytest.fixture(scope="module")
def with_strong(tmp_path_factory):
    """The ensemble and bim under two losses on demo images."""
    out = tmp_path_factory.mktemp("strong") / "made"
    phi = {"phi": ["1/255"]}
    attacks = [("strong", phi), ("bim", phi), ("bim", {**phi, "params": {"loss": "soft-f1"}})]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("afbench.engine.grid.STEPS", 1)  # its own images play no part
        make(out, attacks, limit=2)
    return open_evaluation(out, localizer="reference")


@pytest.mark.parametrize(
    ("images", "steps", "factors"),
    [(1, 2, (0.7, 4.0)), pytest.param(2, 15, (0.5, 0.7, 1.0, 3.0, 4.0), marks=pytest.mark.slow)],
)
def test_a_factor_on_the_logits_moves_rp_of_the_ensemble_by_at_most_two_points(
    with_strong, monkeypatch, images, steps, factors
):
    monkeypatch.setattr(logit_scale, "FACTORS", factors)
    monkeypatch.setattr("afbench.engine.grid.STEPS", steps)
    planned, counted = [], []
    gates = scale_gates(with_strong, images=images, start=planned.append, advance=counted.append)
    # also where the ensemble took fewer gradients than it may
    assert sum(counted) == sum(planned) > 0
    by_config = {gate.detail.split(",")[0]: gate for gate in gates}
    assert by_config["reference-strong-1"].passed is True
    # what the cross-entropy leaves depends on the size of logits, which is no fault of the benchmark but worth a warning
    assert by_config["reference-bim-1"].passed is None
    warnings = scale_warnings(gates)
    assert any(line.startswith("reference-bim-1: its RP moves by more than 2 points") for line in warnings)
    assert not any("strong-1:" in line for line in warnings)


def test_an_ensemble_that_sees_the_size_of_logits_fails(with_strong, monkeypatch):
    rps = iter([0.0, 0.1, 0.0] * 3)
    monkeypatch.setattr(logit_scale, "mean_f1_after", lambda *arguments: next(rps))
    gates = scale_gates(with_strong, images=1)
    assert [gate.passed for gate in gates] == [False, None, None]
    assert len(scale_warnings(gates)) == 3


def test_scaled_logits_make_the_same_decisions(opened):
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    inner = opened.localizer
    scaled = ScaledLocalizer(inner, 4.0)
    cut = math.log(inner.threshold / (1 - inner.threshold))
    with torch.no_grad():
        assert torch.equal(scaled.logits(image) > cut, inner.logits(image) > cut)
        assert torch.allclose(scaled.logits(image) - cut, 4 * (inner.logits(image) - cut), atol=1e-5)
        assert torch.equal(scaled.probability(image), inner.probability(image))


def test_the_command_prints_a_table_and_writes_it_in_three_forms_and_a_figure(afbench, benchmark, tmp_path):
    arguments = ("evaluate", "--data", benchmark, "--localizer", "reference", "--defence", "jpeg")
    ran = afbench(*arguments, "--out", "out", "--figure", "figure.png")
    assert ran.code == 0, ran.err
    assert "jpeg-75 F1" in ran.out and "all-ones mask" in ran.out and "adaptive is never weaker" in ran.out
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {one["defence"] for one in told["figures"]} == {"none", "jpeg-75"} and told["gates"]
    assert (tmp_path / "out" / "table.csv").read_text().startswith("model,dataset,attack,defence")
    assert r"\begin{tabular}" in (tmp_path / "out" / "table.tex").read_text()
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 1000 and figure.height > 600


def test_a_figure_draws_the_samples_that_were_named(benchmark, opened):
    rows = read_rows(benchmark, shard_paths(opened.benchmark.configs["clean"], "list"), ("sample_id",))
    names = [row["sample_id"] for row in rows]
    whole, alone = (evaluation_figure(opened, samples=names[:count]).height for count in (2, 1))
    clean = opened.benchmark.configs["clean"]
    (first, *_) = read_rows(benchmark, shard_paths(clean, "demo"), ("sample_id",))
    with pytest.raises(UsageError, match=f"samples of one split; '{names[0]}' is of list, '.*' is of demo"):
        evaluation_figure(opened, samples=[names[0], first["sample_id"]])
    assert whole > alone


def test_a_failed_sweep_is_exit_code_one_and_json_goes_to_stdout(
    afbench, benchmark, quick, monkeypatch, tmp_path
):
    monkeypatch.setattr(gates_workflow, "ZERO", -1.0)
    arguments = ("evaluate", "--data", benchmark, "--localizer", "reference")
    ran = afbench(*arguments, "--gates", "--json", "--out", "out")
    assert ran.code == 1
    told = json.loads(ran.out)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == told
    assert False in [one["passed"] for one in told["gates"]]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--localizer", "mvss"), "no config of localizer 'mvss'"),
        (("--localizer", "reference", "--defence", "prayer"), "known defences"),
        (("--localizer", "reference", "--checkpoint", "random"), "give --checkpoint"),
        (("--localizer", "reference", "--figure", "x.jpg"), "ends in .png"),
        (("--localizer", "reference", "--sample", "a"), "--sample goes with --figure"),
        (
            ("--localizer", "reference", "--figure", "x.png", "--sample", "nobody"),
            "--sample 'nobody' is not in",
        ),
        (("--localizer", "reference", "--out", "INSIDE"), "closed list"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(afbench, benchmark, arguments, told):
    arguments = [str(benchmark / "x") if one == "INSIDE" else one for one in arguments]
    ran = afbench("evaluate", "--data", benchmark, *arguments)
    assert ran.code == 2 and ran.out == "" and told in ran.err and len(ran.err.splitlines()) == 1


def test_a_defence_that_was_trained_before_other_weights_is_refused(benchmark, tmp_path):
    other = Options(checkpoint="random", through_defence="ansm")
    plan = RunPlan(
        "made", (Block(("reference",), (DEMO,), tuple(expand_attack("fgsm", phi=["1/255"]))),), 0, 1
    )
    with pytest.raises(UsageError, match=r"ansm was trained before weights \w+ .*train ansm"):
        generate(plan, tmp_path / "out", other)
    opened = open_evaluation(benchmark, localizer="reference", defences=["ansm"])
    assert opened.purifiers[1].owner_sha256 == opened.localizer.weights_sha256


OWN = """
import afbench
from torch import nn

def build(checkpoint, device):
    network = nn.Conv2d(3, 1, 3, padding=1)
    nn.init.constant_(network.weight, 0.1)
    nn.init.zeros_(network.bias)
    return afbench.as_localizer(network, name="own", threshold={threshold}, device=device)
"""


def test_several_localizers_are_judged_each_behind_its_own_defences(afbench, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plain_net.py").write_text(OWN.format(threshold=0.5))
    for localizer in ("reference", "plain_net:build"):
        options = ("--attack", "fgsm", "--phi", "1/255", "--source", "demo", "--limit", "1", "--out", "B")
        assert afbench("generate", "--localizer", localizer, *options).code == 0
    both = ("evaluate", "--data", "B", "--localizer", "reference", "--localizer", "plain_net:build")
    ran = afbench(*both, "--defence", "ansm", "--out", "out")
    assert ran.code == 0, ran.err
    assert "warning: plain_net_build without ansm: no ANSM ships for 'plain_net_build'" in ran.err
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {(one["localizer"], one["architecture"]) for one in told["figures"]} == {
        ("reference", "reference"),
        ("plain_net_build", "own"),
    }
    assert {one["localizer"] for one in told["gates"]} <= {"reference", "plain_net_build"} and told[
        "warnings"
    ]
    assert (tmp_path / "out" / "table.tex").read_text().count("tabular}") == 2
    for more, words in (
        (("--defence", "ansm:nowhere"), "does not exist"),
        (("--checkpoint", "random"), "one --localizer"),
        (("--figure", "x.png"), "one --localizer"),
    ):
        ran = afbench(*both, *more)
        assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1


def test_the_network_that_was_attacked_is_asked_for_by_what_it_is(afbench, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "other_net.py"
    source.write_text(OWN.format(threshold=0.5))
    options = ("--attack", "fgsm", "--phi", "1/255", "--source", "demo", "--limit", "1")
    assert (
        afbench(
            "generate", "--localizer", "reference", "--localizer-name", "mvss", *options, "--out", "B"
        ).code
        == 0
    )
    assert afbench("generate", "--localizer", "other_net:build", *options, "--out", "own").code == 0
    source.write_text(OWN.format(threshold=0.4))
    monkeypatch.delitem(__import__("sys").modules, "other_net")
    for command in (("evaluate",), ("predict", "--out", "S")):
        ran = afbench(*command, "--data", "B", "--localizer", "mvss")
        assert ran.code == 2 and "calls network 'reference' 'mvss'" in ran.err
        assert "give --localizer reference --localizer-name mvss" in ran.err
        ran = afbench(*command, "--data", "B", "--localizer", "reference")
        assert ran.code == 2 and "mvss (network reference: --localizer-name mvss)" in ran.err
        ran = afbench(*command, "--data", "own", "--localizer", "other_net:build")
        assert ran.code == 2 and "of threshold 0.5, this one's is 0.4" in ran.err


def test_untrained_weights_are_refused(tmp_path):
    folder = make(tmp_path / "out", [("noise", {"phi": ["1/255"]})], limit=1, checkpoint="random")
    with pytest.raises(AfbenchError, match="untrained"):
        open_evaluation(folder, localizer="reference")
    with pytest.raises(UsageError, match="is no benchmark"):
        open_evaluation(tmp_path, localizer="reference")
