"""The ANSM paper's tables: shipped as printed, contradictions found again, and measured figures put in the right place."""

import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "scoring"))

from scores import per_image, write_score

from afbench.reports.measured import DefendedScore, defended_figures, undefended_figures
from afbench.reports.paper import POOLED, PaperCell, ansm_variants, compare_with_paper, paper_rows
from afbench.reports.paper_table import measured_records, paper_latex, paper_table
from afbench.resources import resource_path
from afbench.scoring.score_tables import score_rows
from afbench.storage.config_manifest import ConfigManifest, SplitManifest

IMAGES = {"Columbia": 160, "CASIAv1": 920, "IMD20": 2010, "MISD": 227}
GRID = (("clean", None, 0), *(("fgsm", phi, 0) for phi in (1, 2, 3)), ("cw", None, 50))


def read(name):
    with resource_path(f"manifests/paper/{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def table3():
    return {
        (row["model"], row["dataset"], row["attack"], row["ansm"] == "true"): (
            float(row["f1"]),
            float(row["rp"]),
        )
        for row in read("table3")
    }


def test_the_tables_are_whole():
    counts = {name: len(read(name)) for name in ("table3", "table3_deltas", "table4", "table5", "table6")}
    assert counts == {"table3": 224, "table3_deltas": 112, "table4": 12, "table5": 8, "table6": 70}
    assert Counter(row.table for row in paper_rows()) == {"III": 224, "IV": 12, "V": 8, "VI": 70}


def test_the_contradictions_are_those_the_figures_show(table3):
    found = set()
    for (model, dataset, attack, ansm), (f1, rp) in table3.items():
        original = table3[model, dataset, "Original", False][0]
        lowest, highest = (f1 - 0.0005) / (original + 0.0005), (f1 + 0.0005) / (original - 0.0005)
        if abs(100 * f1 / original - rp) > 0.0501:
            explained = 100 * lowest - 0.05 <= rp <= 100 * highest + 0.05
            assert ansm
            found.add(("rp", model, dataset, attack, "rounding" if explained else "contradiction"))
    for row in read("table3_deltas"):
        place = row["model"], row["dataset"], row["attack"]
        (before_f1, before_rp), (after_f1, after_rp) = table3[*place, False], table3[*place, True]
        if abs(after_f1 - before_f1 - float(row["delta_f1"])) > 0.0005:
            found.add(("delta_f1", *place, "contradiction"))
        if abs(after_rp - before_rp - float(row["delta_rp"])) > 0.05:
            found.add(("delta_rp", *place, "contradiction"))
    listed = {
        (row["field"], row["model"], row["dataset"], row["attack"], row["class"])
        for row in read("contradictions")
    }
    assert found == listed
    assert Counter(row[-1] for row in listed) == {"contradiction": 13, "rounding": 2}


def test_tables_four_to_six_average_all_sources_but_columbia(table3):
    """Table VI's full method is Table III's, weighted by images; with Columbia it would be up to 0.011 off."""
    pooled = ("CASIAv1", "IMD20", "MISD")
    total = sum(IMAGES[dataset] for dataset in pooled)
    full = [row for row in read("table6") if row["ffa"] == "true" and row["mgr_mask"] == "M_o"]
    assert len(full) == 14
    for row in full:
        mean = (
            sum(IMAGES[name] * table3[row["model"], name, row["attack"], True][0] for name in pooled) / total
        )
        assert mean == pytest.approx(float(row["f1"]), abs=0.0011)
    assert POOLED == ("casia_v1", "imd20", "misd")


def test_every_figure_of_a_contradiction_is_flagged():
    flagged = {
        (row.localizer, row.source, row.attack, row.defended) for row in paper_rows() if row.contradictory
    }
    assert {("hdfnet", "casia_v1", attack, True) for attack in ("cw", "bim", "pgd")} <= flagged
    assert {("mvss", "imd20", "pgn", defended) for defended in (True, False)} <= flagged
    assert ("code", "casia_v1", "mifgsm", False) not in flagged  # only the RP with ANSM disagrees
    assert ("mvss", "imd20", "clean", True) in flagged and ("mvss", "imd20", "clean", False) not in flagged
    assert ("code", "misd", "mifgsm", True) not in flagged  # rounding explains it
    assert len(flagged) == 16


WEIGHTS = "0123456789ab" + "0" * 52
CODE = {
    "architecture": "code", "weights_sha256": WEIGHTS, "threshold": 0.2, "resolution": "official", "untrained": False,
    "attack_at": "model", "through_defence": False,
}  # fmt: skip


def manifest(localizer, splits, *, attack="fgsm", name=None, defence=None, attack_at="model", **changes):
    network = {
        "architecture": localizer,
        "weights_sha256": WEIGHTS,
        "threshold": 0.5,
        "resolution": "official",
    }
    network |= {"name": name or localizer, "untrained": False} | changes
    how = {"attack": attack, "localizer": network, "attack_at": attack_at}
    how |= {"defence": defence} if defence else {}
    parts = {source: SplitManifest(summary=summary) for source, summary in splits.items()}
    return ConfigManifest(f"{localizer}-{attack}-1", parts, how)


def summary(f1_adv, *, n=160, f1_clean=0.6):
    return {"n": n, "n_undefined": 0, "f1_clean": f1_clean, "f1_adv": f1_adv, "rp": 100 * f1_adv / f1_clean}


def test_undefended_figures_are_means_over_the_papers_settings():
    configs = {
        "mvss-fgsm-1": manifest("mvss", {"columbia": summary(0.3), "synthetic": summary(0.9)}),
        "mvss-fgsm-2": manifest("mvss", {"columbia": summary(0.2)}),
        "mvss-fgsm-1p5": manifest("mvss", {"columbia": summary(0.9)}),
        "mvss-fgsm-3-0a1b2c": manifest("mvss", {"columbia": summary(0.9)}),
        "mvss-noise-1": manifest("mvss", {"columbia": summary(0.9)}, attack="noise"),
        "reference-fgsm-1": manifest("reference", {"columbia": summary(0.9)}),
        "code-fgsm-1": manifest("code", {"columbia": summary(0.9)}, untrained=True),
        "clean": ConfigManifest("clean", {"columbia": SplitManifest()}),
    }
    (found,), notes = undefended_figures("bench", configs)
    assert set(found) == {PaperCell("mvss", "columbia", "fgsm"), PaperCell("mvss", "columbia", "clean")}
    attacked = found[PaperCell("mvss", "columbia", "fgsm")]
    assert (attacked.f1, attacked.rp) == pytest.approx((0.25, 100 * 0.25 / 0.6))
    assert (attacked.images, attacked.settings, attacked.by) == (160, 2, "bench")
    assert found[PaperCell("mvss", "columbia", "clean")].rp == pytest.approx(100)
    assert notes == [
        "bench: 'mvss' is MVSS-Net, network mvss, weights 0123456789ab",
        "left out of bench: mvss-fgsm-1: source synthetic is not in the paper",
        "left out of bench: mvss-fgsm-1p5, mvss-fgsm-3-0a1b2c: not the paper's intensities and parameters",
        "left out of bench: mvss-noise-1: attack noise is not in the paper",
        "left out of bench: reference-fgsm-1: the network is reference, which the paper does not have",
        "left out of bench: code-fgsm-1: the weights are untrained",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"localizer": "reference", "name": "mvss"}, "the network is reference"),
        ({"untrained": True}, "untrained"),
        ({"resolution": "input"}, "resolution input"),
        ({"name": "mvss_jpeg_75", "defence": {"name": "jpeg"}}, "through a defence"),
        ({"splits": {"columbia": summary(0.3, n=4)}}, "columbia has 4 images, the paper 160"),
        ({"splits": {"demo": summary(0.3)}}, "source demo is not in the paper"),
    ],
)
def test_a_label_is_no_identity(changes, said):
    """Only trained weights of the paper's own network, on the whole source, stand beside the paper's figures."""
    given = {"localizer": "mvss", "splits": {"columbia": summary(0.3)}} | changes
    config = f"{given.get('name', 'mvss')}-fgsm-1"
    figures, notes = undefended_figures(
        "bench", {config: manifest(given.pop("localizer"), given.pop("splits"), **given)}
    )
    assert figures == [] and notes[-1].startswith(f"left out of bench: {config}: ") and said in notes[-1]
    text = paper_table(measured_records(compare_with_paper(figures, [])), notes)
    assert text.startswith("nothing here was measured") and said in text and "MVSS-Net's" not in text


def test_two_weights_of_one_network_are_two_measurements_and_another_protocol_is_said():
    hard = {"name": "mvss_hard", "weights_sha256": "f" * 64, "attack_at": "native"}
    configs = {
        "mvss-fgsm-1": manifest("mvss", {"columbia": summary(0.3)}),
        "mvss_hard-fgsm-1": manifest("mvss", {"columbia": summary(0.5)}, **hard),
    }
    figures, notes = undefended_figures("bench", configs)
    place = PaperCell("mvss", "columbia", "fgsm")
    assert [(one[place].f1, one[place].by) for one in figures] == [
        (0.3, "bench"),
        (0.5, "bench 'mvss_hard'"),
    ]
    assert notes[1] == (
        "bench: 'mvss_hard' is MVSS-Net, network mvss, weights ffffffffffff; attacked at native size, in the paper at the "
        "network's"
    )
    records = measured_records(compare_with_paper(figures, []))
    assert len(records) == 4 and {record["measured"]["weights_sha256"] for record in records} == {
        WEIGHTS,
        "f" * 64,
    }


@pytest.fixture(scope="module")
def code_rows():
    """All images the paper counts, in few settings."""
    sources = {"columbia": 160, "casia_v1": 920, "imd20": 2010, "misd": 227}
    return per_image(0.8, localizers=("code",), sources=sources, grid=(GRID[0], GRID[1], GRID[-1]))


def test_defended_figures_are_means_over_images(code_rows):
    rows = score_rows(code_rows)
    (found,), notes = defended_figures(DefendedScore("mine", {"type": "x"}, rows, {"code": CODE}))
    for place in (
        PaperCell("code", "columbia", "fgsm"),
        PaperCell("code", "", "cw"),
        PaperCell("code", "misd", "clean"),
    ):
        chosen = rows[rows["attack"] == place.attack]
        chosen = chosen[chosen["source"].isin([place.source] if place.source else list(POOLED))]
        assert found[place].f1 == pytest.approx(chosen["f1"].mean())
        assert found[place].rp == pytest.approx(100 * chosen["f1"].sum() / chosen["f1_original"].sum())
    assert (
        found[PaperCell("code", "", "fgsm")].images == 3157
        and found[PaperCell("code", "", "fgsm")].settings == 1
    )
    assert notes == ["mine: 'code' is CoDE, network code, weights 0123456789ab"]
    part = rows[(rows["source"] != "misd") | (rows["sample_id"] < "misd-100")]
    (part,), notes = defended_figures(DefendedScore("part", {}, part, {"code": CODE}))
    assert PaperCell("code", "imd20", "cw") in part and PaperCell("code", "", "cw") not in part
    assert PaperCell("code", "misd", "cw") not in part
    assert notes[1] == "left out of part: clean, code-cw-50 and 1 more: misd has 100 images, the paper 227"


@pytest.mark.parametrize(
    ("localizers", "knowledge", "said"),
    [
        ({}, "oblivious", "does not say which network"),
        ({"code": CODE | {"architecture": "reference"}}, "oblivious", "the network is reference"),
        ({"code": CODE | {"untrained": True}}, "oblivious", "untrained"),
        ({"code": CODE}, "adaptive", "know the defence"),
    ],
)
def test_a_score_counts_only_if_it_says_which_network_it_is_of(code_rows, localizers, knowledge, said):
    score = DefendedScore("mine", {}, score_rows(code_rows), localizers, knowledge)
    figures, (note,) = defended_figures(score)
    assert figures == [] and note.startswith("left out of mine: code: ") and said in note


@pytest.mark.parametrize(
    ("params", "found"),
    [
        (("middle", "ffa", "none"), {("IV", "middle"), ("V", "FFA"), ("VI", "FFA, none")}),
        (("shallow", "ffa", "none"), {("IV", "shallow")}),
        (("middle", "pwr", "none"), {("V", "PwR")}),
        (("middle", "ffa", "original"), {("VI", "FFA, M_o")}),
        (("middle", "none", "gt"), {("VI", "no FFA, M_gt")}),
        (("middle", "none", "none"), set()),
        (("", "", ""), set()),
    ],
)
def test_an_ablation_is_known_by_its_parameters(params, found):
    defence = {"type": "ansm", "params": dict(zip(("features", "stage1", "stage2"), params, strict=True))}
    assert ansm_variants(defence) == found
    assert found <= {(row.table, row.variant) for row in paper_rows()}
    assert ansm_variants({**defence, "type": "jpeg"}) == set()


def test_no_difference_is_taken_from_a_contradiction_and_none_is_invented(code_rows):
    defence = {"type": "ansm", "params": {"features": "middle", "stage1": "ffa", "stage2": "original"}}
    figures, _ = defended_figures(DefendedScore("mine", defence, score_rows(code_rows), {"code": CODE}))
    records = compare_with_paper([], [(one, ansm_variants(defence)) for one in figures])
    assert len(records) == 224 + 12 + 8 + 70
    measured = [record for record in records if record["measured"]]
    places = Counter((record["table"], record["source"], record["attack"]) for record in measured)
    assert (
        set(places.values()) == {1}
        and ("VI", "", "cw") in places
        and not any(row[0] == "IV" for row in places)
    )
    for record in records:
        if record["measured"] is None or record["contradictory"]:
            assert record["difference"] is None
        else:
            assert record["difference"]["f1"] == pytest.approx(record["measured"]["f1"] - record["f1"])
    doubtful = [record for record in measured if record["contradictory"]]
    assert {(record["source"], record["attack"]) for record in doubtful} == {
        ("columbia", "clean"), ("casia_v1", "fgsm"), ("imd20", "fgsm"),
    }  # fmt: skip
    text = paper_table(records)
    (line,) = [
        line
        for line in text.splitlines()
        if line.split()[:5] == ["code", "columbia", "with", "ANSM", "clean"]
    ]
    assert line.count("!") == 2 and line.split()[-3:] == ["1/1", "160", "mine"]
    assert "Table III: per source" in text and "16 pairs where the paper contradicts itself" in text


def test_what_nobody_measured_is_not_printed_and_latex_is_one_table(code_rows):
    defence = {"type": "ansm", "params": {"features": "middle", "stage1": "ffa", "stage2": "original"}}
    figures, notes = defended_figures(DefendedScore("my_own", defence, score_rows(code_rows), {"code": CODE}))
    records = compare_with_paper([], [(one, ansm_variants(defence)) for one in figures])
    text = paper_table(measured_records(records), notes)
    assert "Table IV" not in text and "Table VI" in text and "mvss" not in text and text.endswith(notes[-1])
    assert not any(set(line.split()[3:]) == {"-"} for line in text.splitlines())
    latex = paper_latex(records, notes)
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + len(measured_records(records)) and latex.count(r"\begin{tabular}") == 1
    assert {line.replace(r"\&", "").count("&") for line in rows[1:]} == {8}
    assert "% my_own: 'code' is CoDE, network code, weights 0123456789ab" in latex and r"C\&W" in latex
    assert "--" not in latex and "CoDE & Columbia & with ANSM & Original" in latex


def test_the_command_takes_benchmarks_and_scores(afbench, code_rows, tmp_path):
    folder = write_score(tmp_path / "scores", "mine", code_rows, localizers={"code": CODE})
    ran = afbench("report", "--paper", str(folder), "--json")
    told = json.loads(ran.out)
    assert len(told) == 12 and all(record["measured"] for record in told)
    assert "mine: 'code' is CoDE" in ran.err
    ran = afbench("report", "--paper", str(folder))
    assert ran.code == 0 and "mvss columbia without" not in ran.out and "code columbia with ANSM" in ran.out
    ran = afbench("report", "--paper", str(folder), "--all")
    assert ran.code == 0 and "mvss columbia without" in ran.out
    assert r"\toprule" in afbench("report", "--paper", str(folder), "--latex").out
    for arguments, words in (
        ((str(folder),), "--paper"),
        (("--paper", "nowhere"), "neither a benchmark"),
        (("--paper", str(folder), "--latex", "--json"), "--latex"),
        (("--paper",), "FOLDERS"),
    ):
        ran = afbench("report", *arguments)
        assert ran.code == 2 and words in ran.err and ran.out == "" and len(ran.err.splitlines()) == 1


def test_reference_called_mvss_is_not_printed_as_mvss_net(afbench, photographs):
    arguments = ("--localizer", "reference", "--localizer-name", "mvss", "--attack", "fgsm", "--phi", "1/255")
    assert afbench("generate", *arguments, "--source", f"folder:{photographs}", "--out", "F").code == 0
    ran = afbench("report", "--paper", "F", "--wide")
    assert ran.code == 0 and "MVSS" not in ran.out and ran.out.startswith("nothing here was measured")
    assert "left out of F: mvss-fgsm-1: the network is reference, which the paper does not have" in ran.out
    assert (
        afbench(
            "predict", "--data", "F", "--localizer", "reference", "--localizer-name", "mvss", "--out", "S"
        ).code
        == 0
    )
    assert afbench("score", "S", "--data", "F", "--out", "scored").code == 0
    ran = afbench("report", "--paper", "scored", "--wide")
    assert "MVSS" not in ran.out and "left out of mvss-none: mvss: the network is reference" in ran.out
