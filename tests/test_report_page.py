"""A report: the plotted numbers are the table's, names are only names, and what is missing is said."""

import csv
import html
import importlib
import io
import json
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest

from afbench.core import UsageError
from afbench.reports.drawing import DARK, LIGHT, encode
from afbench.reports.report_page import ReportGap, ReportSection, ReportTable, render_report
from afbench.reports.steps_figure import sweep_drawings, sweep_sides
from afbench.reports.strength_figure import (
    StrengthCurves,
    StrengthLine,
    StrengthPoint,
    draw_strength,
    strength_csv,
    strength_drawing,
)
from afbench.storage.manifests import open_benchmark
from afbench.workflows.reporting.report_inputs import (
    EvaluationInput,
    ReportInputs,
    benchmark_sides,
    read_report_inputs,
)
from afbench.workflows.reporting.report_sections import steps_section, strength_section, table_section
from afbench.workflows.reporting.report_tables import merged_sides, report_records, strength_curves

ODD = "<script>alert('100%_$x$')</script>"


def point(strength, f1, *, config="c"):
    return StrengthPoint(config, strength, 12, f1, (f1 - 0.05, f1 + 0.05), 100 * f1, None)


def odd_curves():
    lines = [
        StrengthLine("fgsm", "", "phi", [point(1, 0.5), point(3, 0.25)]),
        StrengthLine("bim", ODD, "phi", [point(1, 0.4), point(2, 0.3), point(3, 0.125)]),
        StrengthLine("cw", "", "steps", [point(50, 0.2), point(250, 0.0625)]),
    ]
    return StrengthCurves(ODD, "demo", "none", "oblivious", point(0, 0.8, config="clean"), lines)


def plotted(figure):
    """The values of every line of a figure that has a name, by it."""
    return {
        line.get_gid(): np.asarray(line.get_ydata()).tolist()
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid()
    }


def test_the_plotted_numbers_are_those_of_the_table():
    curves = odd_curves()
    lines = plotted(draw_strength(curves, LIGHT))
    rows = list(csv.DictReader(io.StringIO(strength_csv(curves))))
    assert len(rows) == 8 and len(lines) == 8
    names = {"fgsm": "FGSM", "bim": f"BIM ({ODD})", "cw": "C&W"}
    for measure in ("f1", "rp"):
        for attack, name in names.items():
            values = [float(row[measure]) for row in rows if row["attack"] in ("clean", attack)]
            assert lines[f"{measure} {name}"] == values


def test_a_panel_without_one_value_says_so():
    """RP is undefined where the localizer finds nothing in the originals."""
    curves = odd_curves()
    lines = [
        line._replace(points=[point._replace(rp=None) for point in line.points]) for line in curves.lines
    ]
    figure = draw_strength(curves._replace(lines=lines, original=curves.original._replace(rp=None)), LIGHT)
    texts = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert texts == [[], [], ["undefined"], ["undefined"]]


def test_the_same_figure_has_the_same_bytes_and_another_theme_others():
    curves = odd_curves()
    draw = partial(draw_strength, curves._replace(lines=curves.lines[:1]))
    first, again = encode(draw, ("svg", "png", "pdf")), encode(draw, ("svg", "png", "pdf"))
    assert first == again
    assert first["png"].startswith(b"\x89PNG") and first["pdf"].startswith(b"%PDF")
    assert b"<dc:date>" not in first["svg"] and b"CreationDate" not in first["pdf"]
    dark = encode(draw, ("svg",), DARK)["svg"].decode()
    assert DARK.page in dark and LIGHT.page not in dark


def test_names_are_escaped_in_the_page_and_in_figures():
    table = ReportTable("t", ODD, ODD, [[["a", ODD], ["b", "0.5"]]], ODD, "")
    sections = [ReportSection(ODD, ODD, [strength_drawing(odd_curves())], [table])]
    files = render_report(ODD, [ODD], sections, [ReportGap(ODD, ODD, ODD)])
    page = files["index.html"].decode()
    assert "<script" not in page and page.count("&lt;script&gt;") >= 10
    (svg,) = [data.decode() for name, data in files.items() if name.endswith(".svg")]
    assert "<script" not in svg
    # nothing comes from elsewhere
    assert set(re.findall(r'(?:src|srcset|href)="(data|#|.{5})', page)) == {"data", "#"}
    assert "default-src 'none'" in html.unescape(page) and "script-src" not in page
    assert all(re.fullmatch("[A-Za-z0-9._-]+", name) for name in files)


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):
    """Inputs of a benchmark of two sources, its sides, and its records."""
    inputs = read_report_inputs([made.folder])
    sides = merged_sides(inputs.sides)
    return inputs, sides, report_records(inputs, sides)


def test_records_and_curves_hold_what_the_manifests_say(made, report):
    _, sides, records = report
    curves = {curve.source: curve for curve in strength_curves(sides["reference"][0])}
    manifests = open_benchmark(made.folder).attacked
    for name, manifest in manifests.items():
        for source, split in manifest.splits.items():
            (stored,) = (
                point for line in curves[source].lines for point in line.points if point.config == name
            )
            assert stored.f1 == pytest.approx(split.summary["f1_adv"])
            assert stored.rp == pytest.approx(split.summary["rp"])
            assert curves[source].original.f1 == pytest.approx(split.summary["f1_clean"])
    (clean,) = (row for row in records if (row["source"], row["attack"]) == ("folder", "clean"))
    assert clean["f1"] == pytest.approx(manifests["reference-fgsm-1"].splits["folder"].summary["f1_clean"])
    (chance,) = (row for row in records if (row["source"], row["attack"]) == ("folder", "all-ones"))
    assert chance["f1"] == pytest.approx(
        manifests["reference-fgsm-1"].splits["folder"].summary["f1_all_ones"]
    )


def test_the_command_writes_one_page_and_every_figure_as_files(made, afbench, tmp_path):
    ran = afbench("report", made.folder, "--out", "report", "--json")
    assert ran.code == 0, ran.err
    written = json.loads(ran.out)
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == set(written["files"]) and written["page"] == "report/index.html"
    for source in ("folder", "synthetic"):
        assert {f"strength-reference-{source}.{suffix}" for suffix in ("png", "svg", "pdf", "csv")} <= names
    assert {"table3.tex", "table3.csv"} <= names
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<picture>") == 2 and "untrained" in page
    assert r"\toprule" in (tmp_path / "report" / "table3.tex").read_text()


def evaluation(report, **changes):
    _, _, records = report
    return {"schema_version": 1, "figures": [{**record, **changes} for record in records]}


def test_an_evaluation_of_the_same_images_joins_and_one_of_others_is_refused(made, report, tmp_path):
    path = tmp_path / "E" / "evaluation.json"
    path.parent.mkdir()
    path.write_text(json.dumps(evaluation(report, defence="jpeg-75")))
    inputs = read_report_inputs([made.folder, path.parent])
    records = report_records(inputs, merged_sides(inputs.sides))
    assert len(records) == 2 * len(report[2])
    path.write_text(json.dumps(evaluation(report, f1=0.99)))
    inputs = read_report_inputs([made.folder, path.parent])
    with pytest.raises(Exception, match="they are of different images"):
        report_records(inputs, merged_sides(inputs.sides))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"f1": 1.5}, "1.5 is greater than the maximum"),
        ({"source": "<b>"}, "'<b>' does not match"),
        ({"images": -1}, "-1 is less than the minimum"),
        ({"f1_ci": [0.1]}, "[0.1] is too short"),
        ({"weights_sha256": "0" * 64}, "two networks are called 'reference'"),
    ],
)
def test_an_evaluation_that_is_none_is_one_line(made, report, afbench, tmp_path, changes, words):
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(report, **changes)))
    ran = afbench("report", made.folder, tmp_path, "--out", "report")
    assert ran.code in (1, 2) and words in ran.err and len(ran.err.splitlines()) == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--out FOLDER"),
        (("--out", "report", "--paper"), "--out FOLDER"),
        (("--out", "report", "--latex"), "go with --paper"),
        (("--out", "{made}/report"), "lies inside the benchmark"),
        (("--out", "{made}/README.md"), "is a file"),
        (("nowhere", "--out", "report"), "neither a benchmark"),
    ],
)
def test_what_cannot_be_reported_is_one_line(made, afbench, tmp_path, arguments, words):
    ran = afbench("report", made.folder, *(text.format(made=made.folder) for text in arguments))
    assert ran.code == 2 and words in ran.err and len(ran.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_f1_that_is_none_is_damage(made, monkeypatch):
    row = {"sample_id": "a", "f1_clean": 1.0, "f1_adv": 7.0, "tp": 1, "fp": 0, "fn": 0, "tn": 1}
    monkeypatch.setattr(
        "afbench.workflows.reporting.report_inputs.read_shards", lambda *arguments: iter([row])
    )
    with pytest.raises(Exception, match=r"is damaged \(ValueError: an F1 of 7.0\)"):
        list(benchmark_sides(open_benchmark(made.folder)))


def swept(report):
    """The records of a report, behind JPEG of three qualities and two sides of a median, with other figures."""
    _, _, records = report
    settings = [("jpeg", "quality", value) for value in (60, 95, 75)] + [
        ("median", "side", 3),
        ("median", "side", 5),
    ]
    return [
        *records,
        *(
            {**record, "defence": f"{kind}-{value}", "defence_type": kind, "defence_params": {name: value}}
            | {"f1": record["f1"] / value, "f1_ci": None}
            for kind, name, value in settings
            for record in records
            if record["attack"] != "all-ones"
        ),
    ]


def test_transforms_stand_from_weak_to_strong_with_the_numbers_of_their_table(report):
    records = swept(report)
    assert sweep_sides(records) == {"jpeg": [95, 75, 60], "median": [3, 5]}
    drawing = next(
        drawing for drawing in sweep_drawings(records) if drawing.name == "transforms-reference-folder"
    )
    figure = drawing.draw(LIGHT)
    ticks = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in figure.axes[:2]]
    assert ticks == [["none", "95", "75", "60"], ["none", "3", "5"]]
    rows = list(csv.DictReader(io.StringIO(drawing.csv)))
    f1 = {(row["defence"], row["attack"]): float(row["f1"]) for row in rows}
    for name, defences in (
        ("jpeg", ("none", "jpeg-95", "jpeg-75", "jpeg-60")),
        ("median", ("none", "median-3", "median-5")),
    ):
        for attack in ("Original", "FGSM", "C&W"):
            expected = [f1[defence, attack] for defence in defences]
            assert plotted(figure)[f"{name}: {attack}"] == pytest.approx(expected, rel=1e-5)


def test_tables_leave_transforms_to_their_figure_and_compare_the_variants_of_ansm(report):
    params = {"features": "shallow", "stage1": "ffa", "stage2": "none"}
    ansm = [
        {**record, "defence": "ansm-0", "defence_type": "ansm", "defence_params": params}
        for record in report[2]
    ]
    missing = []
    tables = {table.name: table for table in table_section([*swept(report), *ansm], missing).tables}
    assert set(tables) == {"table3", "table4"}
    assert "jpeg" not in tables["table3"].csv and "ansm-0" in tables["table3"].csv
    rows = list(csv.DictReader(io.StringIO(tables["table4"].csv)))
    assert {row["defence"] for row in rows} == {"none", "shallow"} and {row["dataset"] for row in rows} == {
        "all"
    }
    assert "shallow" in tables["table4"].latex and r"\bottomrule" in tables["table4"].latex
    assert [gap.title[-9:] for gap in missing] == ["(Table V)", "Table VI)"]
    # of two modules of one variant no row says which
    twice = [*ansm, *({**record, "defence": "ansm-1"} for record in ansm)]
    assert "table4" not in {table.name for table in table_section([*report[2], *twice], []).tables}


def test_every_command_that_a_report_suggests_exists(report):
    inputs, _, records = report
    missing = []
    strength_section({}, missing), steps_section(records, inputs, missing), table_section(records, missing)
    assert len(missing) == 6
    for gap in missing:
        _, name, *arguments = shlex.split(gap.command)
        command = importlib.import_module(f"afbench.cli.{name}_command").command
        if isinstance(command, click.Group):
            command = command.commands[arguments.pop(0)]
        command.make_context(name, arguments)


def adaptive(side, folder="through"):
    """Return a side of a benchmark attacked through JPEG, as the rows of a bare one with other F1."""
    rows = side.side.per_image
    rows = rows[rows["attack"] != "clean"]
    behind = replace(
        side.side,
        defence="jpeg-75",
        knowledge="adaptive",
        kind="jpeg",
        per_image=rows.assign(f1_undefended=0.1),
    )
    return side._replace(side=behind, folder=Path(folder))


def test_originals_behind_a_defence_are_never_the_bare_localizers(made, monkeypatch):
    benchmark = open_benchmark(made.folder)
    defence = {"name": "jpeg", "params": {"quality": 75}, "weights_sha256": ""}
    through = {
        name: replace(manifest, provenance=manifest.provenance | {"defence": defence})
        for name, manifest in benchmark.attacked.items()
    }
    monkeypatch.setattr(type(benchmark), "attacked", property(lambda _: through))
    (side,) = benchmark_sides(benchmark)
    assert (side.side.defence, side.side.knowledge) == ("jpeg-75", "adaptive")
    assert "clean" not in set(side.side.per_image["attack"])


def test_a_benchmark_attacked_only_through_a_defence_is_shown_without_a_point_at_0(report):
    _, sides, records = report
    only = merged_sides([adaptive(sides["reference"][0])])
    missing = []
    drawing = next(iter(strength_section(only, missing).figures))
    rows = list(csv.DictReader(io.StringIO(drawing.csv)))
    assert rows and not [row for row in rows if row["attack"] == "clean" or row["strength"] == "0"]
    assert "point at 0" not in drawing.caption and "attacked through" in drawing.title
    assert all("originals" not in name for name in plotted(drawing.draw(LIGHT)))
    (gap,) = missing
    assert "No config attacked the bare localizer 'reference'" in gap.reason
    found = report_records(ReportInputs(), only)
    originals = {
        (row["source"], row["attack"]): row["f1"] for row in found if row["attack"] in ("clean", "all-ones")
    }
    assert originals == pytest.approx(
        {
            (row["source"], row["attack"]): row["f1"]
            for row in records
            if row["attack"] in ("clean", "all-ones")
        }
    )
    assert {row["defence"] for row in found if row["attack"] == "clean"} == {"none"}


def test_an_evaluation_of_fewer_images_is_refused_with_both_folders(made, report, afbench, tmp_path):
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation(report, images=2)))
    ran = afbench("report", made.folder, tmp_path, "--out", "report")
    assert ran.code == 2 and len(ran.err.splitlines()) == 1 and not (tmp_path / "report").exists()
    for words in ("are of different images", str(made.folder), str(tmp_path), "make a report of each"):
        assert words in ran.err


def test_images_after_posting_are_those_of_the_benchmark(made, report):
    inputs = report[0]
    posted = [{**record, "after": None, "images": 2} for record in report[2]]
    fewer = replace(inputs, evaluations=[EvaluationInput(Path("E"), [], posted)])
    with pytest.raises(UsageError, match="are of different images"):
        report_records(fewer, report[1])


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.assign(sample_id="other-" + rows["sample_id"]),
        lambda rows: rows.assign(f1_original=0.9),
        lambda rows: rows[rows["sample_id"] != rows["sample_id"].iloc[0]],
        lambda rows: rows.assign(source="elsewhere"),
    ],
)
def test_a_score_of_other_images_is_refused(report, change):
    inputs = report[0]
    (side,) = inputs.sides
    score = replace(side.side, defence="jpeg-75", kind="jpeg", undefended=False)
    same = side._replace(side=score, folder=Path("score"))
    assert len(merged_sides([side, same])["reference"]) == 2
    other = same._replace(side=replace(score, per_image=change(score.per_image)))
    with pytest.raises(UsageError, match="'score' is not of the images of"):
        merged_sides([side, other])
