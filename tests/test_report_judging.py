"""What a report shows of localizers that judge attacks on each other, and of images as a whole."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

import afbench as library
from afbench.core import AfbenchError, UsageError
from afbench.reports.drawing import LIGHT
from afbench.reports.image_figure import image_drawings
from afbench.reports.image_table import image_table
from afbench.workflows.reporting.judging_sections import image_section, transfer_section
from afbench.workflows.reporting.report_inputs import ReportInputs, read_report_inputs

RUN = {"localizer": "reference", "attack": ["fgsm", "bim"], "phi": "3/255", "source": "demo", "limit": 3}
WEIGHTS = {"reference": "a" * 64, "other": "b" * 64}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A benchmark with authentic images, its evaluation, and a score of the bare localizer."""
    folder = tmp_path_factory.mktemp("judging")
    library.generate(**RUN, authentic=True, out=folder / "B", quiet=True)
    library.evaluate(data=folder / "B", localizer="reference", defence="median", out=folder / "E", quiet=True)
    library.predict(
        data=folder / "B", localizer="reference", out=folder / "S", probabilities=True, quiet=True
    )
    library.score(folder / "S", folder / "B", out=folder / "score", quiet=True)
    return folder


def judgement(attacker, victim, attack, f1):
    """A record of transfer as ``evaluate`` writes it."""
    own = attacker == victim
    return {
        "source": "demo", "attack": attack, "attacker": attacker, "victim": victim,
        "attacker_architecture": attacker and "reference", "attacker_weights_sha256": attacker and WEIGHTS[attacker],
        "victim_architecture": "reference", "victim_weights_sha256": WEIGHTS[victim],
        "access": None if attacker is None else "white-box" if own else "black-box",
        "f1": f1, "f1_ci": [f1 / 2, f1], "rp": 100 * f1, "rp_ci": None, "f1_original": 1.0, "f1_all_ones": 0.1,
        "images": 3, "settings": 1, "undefined": 0, "finds_nothing": False,
    }  # fmt: skip


@pytest.fixture
def matrix(tmp_path):
    """The folder of an evaluation of two localizers, of which nothing but transfer is known."""
    records = [judgement(None, victim, "clean", 1.0) for victim in WEIGHTS]
    values = iter((0.25, 0.5, 0.75, 0.125))
    records += [
        judgement(attacker, victim, "fgsm", next(values)) for attacker in WEIGHTS for victim in WEIGHTS
    ]
    (tmp_path / "T").mkdir()
    evaluation = {"schema_version": 1, "figures": [], "transfer": records}
    (tmp_path / "T/evaluation.json").write_text(json.dumps(evaluation))
    return tmp_path / "T"


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_matrix_is_drawn_with_the_numbers_of_its_table(matrix):
    missing = []
    section = transfer_section(read_report_inputs([matrix]), missing)
    (drawing,), (table,) = section.figures, section.tables
    panel = drawing.draw(LIGHT).axes[0]
    assert np.array(panel.images[0].get_array()).tolist() == [[25, 50], [75, 12.5]]
    rows = rows_of(drawing.csv)
    assert [float(row["rp"]) for row in rows] == [25, 50, 75, 12.5]
    assert len(rows_of(table.csv)) == 6 and r"\bottomrule" in table.latex
    (grid,) = table.grids
    assert grid[0] == ["FGSM on demo", "on reference", "F1", "RP %", "on other", "F1", "RP %"]
    assert [row[0] for row in grid[1:]] == ["nobody", "reference", "other"] and grid[3][3] == "75.0"
    assert not missing


def test_a_matrix_of_originals_alone_is_none(matrix):
    evaluation = json.loads((matrix / "evaluation.json").read_text())
    evaluation["transfer"] = evaluation["transfer"][:2]
    (matrix / "evaluation.json").write_text(json.dumps(evaluation))
    missing = []
    assert transfer_section(read_report_inputs([matrix]), missing).figures == [] and len(missing) == 1


def test_a_localizer_with_a_score_of_its_own_hides_no_other(evaluated):
    records = list(read_report_inputs([evaluated / "B", evaluated / "E"]).image_level)
    records += [
        {**record, "localizer": "second", "score": "own", "threshold": 0.25}
        for record in records
        if record["score"] == "max"
    ]
    section = image_section(ReportInputs(image_level=records), [])
    assert [drawing.name for drawing in section.figures] == ["images-reference-demo", "images-second-demo"]
    note = (
        "reference by the mean of the highest 1 % of probabilities, forged above 0.5; "
        "second by the localizer's own score, forged above 0.25"
    )
    (table,) = section.tables
    assert note in table.note and note in table.latex and len(table.grids) == 2
    text = image_table(records, None, {"demo"})
    assert "images as a whole, reference" in text and "images as a whole, second" in text
    assert "no images as a whole by this score: reference" in image_table(records, "own", {"demo"})


def test_two_matrices_have_files_of_their_own(matrix, tmp_path):
    again = shutil.copytree(matrix, tmp_path / "again")
    written = library.report([matrix, again], out=tmp_path / "report", quiet=True)
    assert {"transfer.csv", "transfer-2.csv", "transfer-demo.png", "transfer-demo-2.png"} <= {*written.files}
    assert len(set(written.files)) == len(written.files)


def test_images_as_a_whole_are_drawn_with_the_numbers_of_their_table(evaluated):
    missing = []
    section = image_section(read_report_inputs([evaluated / "B", evaluated / "E"]), missing)
    (drawing,), (table,) = section.figures, section.tables
    figure = drawing.draw(LIGHT)
    lines = {line.get_gid(): line for axes in figure.axes for line in axes.lines if line.get_gid()}
    rows = rows_of(drawing.csv)
    assert {row["score"] for row in rows} == {"top1"}
    assert {row["score"] for row in rows_of(table.csv)} == {"share", "max", "top1"}
    for key in ("auc", "balanced_accuracy"):
        for defence in ("none", "median-3"):
            values = [float(row[key]) for row in rows if row["defence"] == defence]
            plotted = lines[f"{key} {defence}"].get_ydata()
            assert len(values) == len(rows) / 2 == 5 and np.allclose(plotted, values, atol=1e-5)
    assert len(table.grids[0]) == 1 + len(rows) and table.grids[0][0][0] == "localizer"
    assert "before attack" in table.latex and not missing


def test_a_score_gives_the_images_that_its_evaluation_gives(evaluated):
    by_evaluation, by_score = (
        {
            record["attack"]: {
                key: record[key] for key in ("auc", "auc_ci", "fpr", "tpr", "images", "threshold")
            }
            for record in read_report_inputs([evaluated / "B", evaluated / name]).image_level
            if record["score"] == "share" and record["defence"] == "none"
        }
        for name in ("E", "score")
    )
    # random noise is no attack that a submission answers
    assert by_score == {attack: by_evaluation[attack] for attack in ("clean", "fgsm", "bim", "worst-case")}
    both = read_report_inputs([evaluated / "B", evaluated / "score", evaluated / "E"]).image_level
    alone = read_report_inputs([evaluated / "B", evaluated / "E"]).image_level
    assert len(both) == len(alone)  # what both hold stands there once


def test_what_is_not_there_is_said_with_the_command_that_makes_it(evaluated, made):
    for folder, hint in ((made.folder, "--authentic"), (evaluated / "B", "afbench evaluate --data")):
        missing = []
        inputs = read_report_inputs([folder])
        assert not image_section(inputs, missing).figures and not transfer_section(inputs, missing).figures
        assert hint in missing[0].command and "--localizer LABEL=NAME@CHECKPOINT" in missing[1].command
    assert list(image_drawings([])) == [] and image_section(ReportInputs(), []).tables == ()


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("transfer", {"f1": 2}, r"is no evaluation: .*transfer.*f1"),
        ("transfer", {"victim": "../x"}, r"is no evaluation: .*transfer.*victim"),
        ("image_level", {"auc": "x"}, r"is no evaluation: .*image_level.*auc"),
        ("image_level", {"score": "mean"}, r"is no evaluation: .*image_level.*score"),
    ],
)
def test_records_of_a_stranger_are_checked(part, change, message, matrix, evaluated, tmp_path):
    source = matrix if part == "transfer" else evaluated / "E"
    evaluation = json.loads((source / "evaluation.json").read_text())
    evaluation[part][0] |= change
    (tmp_path / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(AfbenchError, match=message) as refused:
        read_report_inputs([tmp_path])
    assert "\n" not in str(refused.value)


def test_a_judge_of_other_weights_under_a_known_name_is_refused(matrix, evaluated):
    with pytest.raises(UsageError, match="two networks are called 'reference'"):
        read_report_inputs([evaluated / "B", matrix])
