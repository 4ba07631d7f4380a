"""Attacks on one localizer, judged by others: the matrix, who is white-box, and what is refused."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from afbench.core import UsageError
from afbench.engine import localize
from afbench.localizers import LocalizerChoice, load_localizer, parse_choice
from afbench.metrics import count_pixels, f1
from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.reports.transfer_figure import transfer_figure
from afbench.reports.transfer_tables import transfer_csv, transfer_latex, transfer_table
from afbench.storage.manifests import open_benchmark, shard_paths
from afbench.storage.shards import read_rows
from afbench.storage.stored_pixels import stored_picture
from afbench.workflows.evaluation.evaluate import evaluate
from afbench.workflows.evaluation.evaluation_records import evaluation_records
from afbench.workflows.evaluation.evaluation_setup import open_evaluations
from afbench.workflows.evaluation.transfer import transfer_records, untrained_attackers
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options

OWN = """
import afbench
import torch
from torch import nn

def build(checkpoint, device):
    network = nn.Conv2d(3, 1, 3, padding=1)
    nn.init.constant_(network.weight, 0.1)
    nn.init.constant_(network.bias, {bias})
    if checkpoint:
        network.bias.data.fill_(float(open(checkpoint).read()))
    return afbench.as_localizer(network, name="{name}", threshold=0.5, device=device)
"""


def make(folder, attacks, through=None, *, localizer="reference", limit=2, **options):
    settings = tuple(setting for name, given in attacks for setting in expand_attack(name, **given))
    plan = RunPlan("made", (Block((localizer,), (SourceSpec("demo"),), settings),), 0, limit)
    generate(plan, folder, Options(through_defence=through, **options))
    return folder


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Two networks of a user's own; ``first`` also takes a checkpoint."""
    folder = tmp_path_factory.mktemp("modules")
    for name, bias in (("first", -1.4), ("second", -1.2)):
        (folder / f"{name}_victim.py").write_text(OWN.format(name=name, bias=bias))
    (folder / "weights.txt").write_text("-1.3")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture(scope="module")
def attacked(tmp_path_factory, modules):
    """Attacks on the reference and on one network of a user's own, on the same three images, and one through JPEG."""
    out = tmp_path_factory.mktemp("transfer") / "made"
    attacks = [("fgsm", {"phi": ["1/255", "3/255"]}), ("noise", {"phi": ["3/255"]})]
    make(out, attacks, localizer="first_victim:build", limit=2)
    make(out, attacks[:1], limit=2)
    return make(out, attacks[:1], "jpeg", limit=2)


@pytest.fixture(scope="module")
def records(attacked):
    """Two localizers that were attacked and one that was not."""
    names = ("reference", "first_victim:build", "second_victim:build")
    opened = open_evaluations(attacked, localizers=[LocalizerChoice(name) for name in names])
    results = {setup.name: evaluate(setup) for setup in opened.setups}
    transfer = transfer_records(
        opened.victims, {name: result.sides[0].per_image for name, result in results.items()}
    )
    return transfer, {name: evaluation_records(result) for name, result in results.items()}


def pick(records, **expected):
    (record,) = [row for row in records if expected.items() <= row.items()]
    return record


def test_a_cell_counts_what_the_victim_finds_in_images_attacked_with_another_ones_gradients(
    attacked, records
):
    victim = load_localizer("second_victim:build")
    benchmark = open_benchmark(attacked)

    def mean_f1(config):
        rows = list(
            read_rows(attacked, shard_paths(benchmark.configs[config], "demo"), ("image", "sample_id"))
        )
        originals = read_rows(
            attacked, shard_paths(benchmark.configs["clean"], "demo"), ("mask", "sample_id")
        )
        masks = {row["sample_id"]: stored_picture(attacked, row, "mask") > 127 for row in originals}
        images = [stored_picture(attacked, row) for row in rows]
        maps = localize(victim, images, defence=lambda image: image, batch_size=1, device="cpu")
        return np.mean(
            [
                f1(count_pixels(map_ > victim.threshold, masks[rows[number]["sample_id"]]))
                for number, map_, *_ in maps
            ]
        )

    cell = pick(records[0], attacker="reference", victim="second_victim_build", attack="fgsm")
    assert cell["f1"] == pytest.approx(np.mean([mean_f1("reference-fgsm-1"), mean_f1("reference-fgsm-3")]))
    assert cell["rp"] == pytest.approx(100 * cell["f1"] / mean_f1("clean"))
    assert (cell["access"], cell["images"], cell["settings"]) == ("black-box", 2, 2)


def test_white_box_cells_and_originals_are_the_figures_of_the_evaluation(records):
    transfer, evaluations = records
    for name, rows in evaluations.items():
        for attacker, attack in ((name, "fgsm"), (name, "worst-case"), (None, "clean")):
            cell = pick(transfer, attacker=attacker, victim=name, attack=attack)
            row = pick(rows, attack=attack, defence="none", knowledge="oblivious")
            for figure in ("f1", "f1_ci", "rp", "rp_ci", "images", "settings", "finds_nothing"):
                assert cell[figure] == row[figure]
            assert cell["access"] == (attacker and "white-box")


def test_every_pair_has_a_cell_and_weights_decide_its_access(records):
    cells = {(row["attacker"], row["victim"]): row["access"] for row in records[0] if row["attack"] == "fgsm"}
    victims = ("reference", "first_victim_build", "second_victim_build")
    assert cells == {
        (attacker, victim): "white-box" if attacker == victim else "black-box"
        for attacker in victims[:2]
        for victim in victims
    }
    noise = [row for row in records[0] if row["attack"] == "noise"]
    assert [row["access"] for row in noise] == [None] * 3


def test_text_csv_latex_and_picture_hold_the_matrix(records):
    transfer = records[0]
    text = transfer_table(transfer)
    (line,) = [
        line
        for line in text.partition("FGSM on demo")[2].partition("\n\n")[0].splitlines()
        if line.startswith("first_victim_build")
    ]
    assert [word for word in line.split() if word.endswith("-box")] == ["black-box", "white-box", "black-box"]
    assert all(len(folded) <= 80 for folded in transfer_table(transfer, 80).splitlines())
    rows = list(csv.DictReader(io.StringIO(transfer_csv(transfer))))
    assert len(rows) == len(transfer) and rows[0]["attacker"] == ""
    cell = pick(transfer, attacker="reference", victim="second_victim_build", attack="fgsm")
    row = pick(rows, attacker="reference", victim="second_victim_build", attack="fgsm")
    assert float(row["f1"]) == pytest.approx(cell["f1"], rel=1e-5) and row["access"] == "black-box"
    lines = [line for line in transfer_latex(transfer).splitlines() if line.endswith("\\\\")]
    assert {line.count(" & ") for line in lines[1:]} == {2 + 9}
    with Image.open(io.BytesIO(transfer_figure(transfer))) as picture:
        assert picture.format == "PNG" and picture.width > 300 and np.asarray(picture.convert("L")).std() > 10
    assert transfer_figure(transfer) == transfer_figure(transfer)


def test_the_command_adds_the_matrix_for_several_localizers_only(afbench, attacked, modules, tmp_path):
    single = afbench("evaluate", "--data", attacked, "--localizer", "reference", "--json")
    assert single.code == 0 and "transfer" not in json.loads(single.out)
    more = ("--localizer", f"third=first_victim:build@{modules / 'weights.txt'}", "--defence", "bit-depth")
    ran = afbench("evaluate", "--data", attacked, "--localizer", "reference", *more, "--out", "out", "--json")
    assert ran.code == 0, ran.err
    report = json.loads(ran.out)
    assert report == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {row["localizer"] for row in report["figures"]} == {"reference"}
    assert {row["victim"] for row in report["transfer"]} == {"reference", "third"}
    assert {row["attacker"] for row in report["transfer"]} == {None, "reference", "first_victim_build"}
    assert "third without --defence and --after" in ran.err
    for name in ("transfer.csv", "transfer.tex", "transfer.png"):
        assert (tmp_path / "out" / name).stat().st_size > 200
    printed = afbench("evaluate", "--data", attacked, "--localizer", "first_victim:build", *more[:2])
    assert printed.code == 0 and "FGSM on demo" in printed.out and "on third" in printed.out


def test_a_network_is_called_what_the_configs_that_attacked_it_call_it(attacked, modules):
    choices = [LocalizerChoice("reference", None, "another"), LocalizerChoice("second_victim:build")]
    opened = open_evaluations(attacked, localizers=choices)
    assert [setup.name for setup in opened.victims] == ["reference", "second_victim_build"]
    assert [setup.name for setup in opened.setups] == ["reference"]


def test_attackers_of_random_weights_are_left_out(tmp_path, modules):
    fgsm = [("fgsm", {"phi": ["1/255"]})]
    folder = make(tmp_path / "out", fgsm, limit=1, checkpoint="random")
    choices = [LocalizerChoice("reference"), LocalizerChoice("second_victim:build")]
    with pytest.raises(UsageError, match="no attack on a bare localizer with trained weights"):
        open_evaluations(folder, localizers=choices)
    make(folder, fgsm, localizer="first_victim:build", limit=1)
    with pytest.raises(UsageError, match="calls other weights 'reference'"):
        open_evaluations(folder, localizers=choices)
    choices[0] = LocalizerChoice("reference", None, "trained")
    opened = open_evaluations(folder, localizers=choices)
    assert {row["attacker"] for row in transfer_records(opened.victims, {})} == {None, "first_victim_build"}
    assert untrained_attackers(opened.victims[0].benchmark) == [
        "transfer without reference: its weights are untrained"
    ]


@pytest.mark.parametrize(
    ("localizers", "words"),
    [
        (("reference", "reference"), "two localizers are called 'reference'"),
        (("reference", "again=reference"), "two localizers are called 'reference'"),
        (("second_victim:build", "again=second_victim:build"), "have the same weights"),
        (("reference", "mvss"), "needs the weights"),
        (("reference", "reference@nowhere.safetensors"), "does not exist"),
        (("reference", "Bad Name=reference@x"), "the label must match"),
        (("reference", "mvss@"), "[LABEL=]NAME[@CHECKPOINT]"),
        (("reference", "nothing"), "known localizers"),
    ],
)
def test_localizers_that_cannot_be_compared_are_one_line(afbench, attacked, localizers, words):
    options = [word for name in localizers for word in ("--localizer", name)]
    ran = afbench("evaluate", "--data", attacked, *options)
    assert ran.code == 2 and ran.out == "" and words in ran.err and len(ran.err.splitlines()) == 1


def test_a_benchmark_without_attacks_on_a_localizer_is_one_line(afbench, attacked, tmp_path):
    folder = make(tmp_path / "defended", [("fgsm", {"phi": ["1/255"]})], "jpeg", limit=1)
    both = ("--localizer", "reference", "--localizer", "second_victim:build")
    ran = afbench("evaluate", "--data", folder, *both)
    assert (
        ran.code == 2 and "holds no attack on a bare localizer" in ran.err and len(ran.err.splitlines()) == 1
    )


NAMES = st.sampled_from(["reference", "mvss", "my.module:build"])


@settings(max_examples=20, deadline=None)
@given(NAMES, st.none() | st.text(min_size=1), st.none() | st.from_regex(r"[a-z0-9_]+", fullmatch=True))
def test_a_choice_reads_back_whatever_its_path_holds(name, checkpoint, label):
    text = (f"{label}=" if label else "") + name + (f"@{checkpoint}" if checkpoint else "")
    assert parse_choice(text) == LocalizerChoice(name, checkpoint, label)
