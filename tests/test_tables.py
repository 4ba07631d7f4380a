"""Tables fit the width of a terminal, and lose nothing by it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.reports.differences import differences_table
from afbench.reports.evaluation import evaluation_table
from afbench.reports.gate_table import gate_table
from afbench.reports.measured import undefended_figures
from afbench.reports.paper import compare_with_paper
from afbench.reports.paper_table import paper_table
from afbench.reports.score_table import score_table
from afbench.reports.tables import stats_table
from afbench.reports.text import WIDTH, fold_line, text_table
from afbench.storage.config_manifest import ConfigManifest, SplitManifest

LONG = "my_own_localizer_random-resize-pad-0.8-ta_vmifgsm-1p5-0a1b2c" + "_and_more" * 5
NAMES = ("reference", "a" * 40, LONG)
every_name = pytest.mark.parametrize("name", NAMES)
CELLS = st.text(st.sampled_from("abc-.0123"), min_size=1, max_size=12)
TABLES = st.integers(3, 14).flatmap(
    lambda columns: st.tuples(
        st.lists(CELLS, min_size=columns, max_size=columns),
        st.lists(st.lists(CELLS, min_size=columns, max_size=columns), min_size=1, max_size=5),
    )
)


def assert_fits(text):
    assert max(map(len, text.splitlines())) <= WIDTH, text


def squeezed(text):
    return re.sub(r"\s", "", text)


@given(TABLES, st.sampled_from(("short", "a" * 30, LONG)))
def test_a_folded_table_fits_and_shows_every_cell(table, label):
    head, body = table
    body = [[label + row[0], *row[1:]] for row in body]
    text = text_table(head, body, width=WIDTH)
    assert_fits(text)
    for column, title in enumerate(head):
        assert squeezed(title) in squeezed(text)
        for row in body:
            assert squeezed(row[column]) in squeezed(text)


@given(TABLES)
def test_a_table_that_fits_is_not_folded_and_without_a_width_none_is(table):
    head, body = table
    whole = text_table(head, body)
    assert len(whole.splitlines()) == 1 + len(body)
    if max(map(len, whole.splitlines())) <= WIDTH:
        assert text_table(head, body, width=WIDTH) == whole


def test_groups_of_columns_are_not_torn_apart():
    head = ["what", "of", *["F1", "RP"] * 8]
    lines = text_table(head, [["x" * 9, "y" * 9, *["0.123"] * 16]], column_groups=[2] * 8, width=WIDTH).split(
        "\n"
    )
    assert all(line.count("F1") == line.count("RP") for line in lines)


def test_a_long_line_is_folded_with_an_indent_and_a_long_word_is_broken():
    assert fold_line("ab " * 40, None) == "ab " * 40
    first, *later = fold_line("note: " + "word " * 30 + "x" * 100, WIDTH).split("\n")
    assert first.startswith("note: ") and all(line.startswith("  ") for line in later)
    assert_fits("\n".join([first, *later]))


@every_name
def test_stats_fit(name):
    summary = {"n": 1200, "f1_clean": 0.81249, "f1_adv": 0.05, "rp": 116.15, "f1_all_ones": 0.2}
    summary |= {"psnr": 48.13, "ssim": 0.99912, "linf": 255, "unchanged": 0, "n_undefined": 2}
    localizer = {"name": name, "architecture": name, "weights_sha256": "0" * 64, "untrained": True}
    how = {"localizer": localizer, "attack": "pgd", "phi": "1/255", "steps": 10, "params": {}}
    parts = {"demo": SplitManifest(summary=summary), "a_source": SplitManifest(summary={**summary, "n": 3})}
    names = [f"{name}-{attack}" for attack in ("pgd-1", "cw-250")]
    configs = {config: ConfigManifest(config, parts, how) for config in names}
    assert_fits(stats_table(configs, WIDTH))
    assert max(map(len, stats_table(configs).splitlines())) > WIDTH


@every_name
def test_evaluations_and_their_gates_fit(name):
    defences = ("none", "jpeg-75", f"ansm-{name}", "gaussian-noise-4")
    records = [
        {
            **{"localizer": name, "source": source, "attack": attack, "defence": defence},
            **{
                "knowledge": "oblivious",
                "images": 920,
                "f1": 0.5,
                "rp": 63.2,
                "fpr": None,
                "settings": number,
            },
            "seen_in_training": True,
        }
        for source in ("columbia", "casia_v1")
        for attack in ("clean", "fgsm", f"ta_{name}", "all-ones")
        for number, defence in enumerate(defences, 1)
    ]
    text = evaluation_table(records, WIDTH)
    assert_fits(text)
    assert all(squeezed(defence) in squeezed(text) for defence in defences[1:])
    gate = {"passed": False, "defence": name, "name": "more steps never help", "detail": "pgd 3/255 " * 20}
    assert_fits(gate_table([gate, {**gate, "passed": None}], WIDTH))


@every_name
def test_comparisons_fit(name):
    cell = {"first": 0.5, "second": 0.25, "difference": 0.25, "low": -0.1, "high": 0.6, "tie": True}
    rows = [
        {"localizer": name, "attack": attack, "rows": 12000, "f1": cell, "rp": {**cell, "high": 101.5}}
        for attack in ("all", "clean", f"ta_{name}")
    ]
    found = {"first": name, "second": f"{name}-2", "dataset_version": "0" * 12, "attacks": rows}
    assert_fits(differences_table(found, WIDTH))


@every_name
def test_scores_fit(name):
    figures = {"n": 12000, "f1": 0.5, "f1_ci": (0.4, 0.6), "rp": 63.2, "rp_ci": (60.0, 70.5)}
    figures |= {"n_undefined": 3, "seen_in_training": True}
    one = {"micro": figures, "macro": figures, "worst_case": figures}
    one["per_attack"] = {"clean": figures, "mifgsm": {**figures, "n": 1}, f"ta_{name}": figures}
    score = {"aggregates": {name: one, "mvss": one}, "warnings": [f"AF015: {name} " * 8], "rankable": False}
    assert_fits(score_table(score, WIDTH))


@every_name
def test_the_report_beside_the_paper_fits(name):
    summary = {"n": 920, "n_undefined": 0, "f1_clean": 0.5, "f1_adv": 0.1}
    network = {"name": "mvss", "architecture": "mvss", "weights_sha256": "0" * 64, "untrained": False}
    how = {"attack": "fgsm", "localizer": network}
    parts = {source: SplitManifest(summary=summary) for source in ("casia_v1", name)}
    manifest = ConfigManifest("mvss-fgsm-1", parts, how)
    figures, notes = undefended_figures(name, {"mvss-fgsm-1": manifest})
    assert figures and len(notes) == 2
    assert_fits(paper_table(compare_with_paper(figures, []), notes, WIDTH))


def test_list_fits_and_wide_puts_every_entry_in_one_line(afbench):
    assert_fits(afbench("list").out)
    assert any(len(line) > WIDTH for line in afbench("list", "sources", "--wide").out.splitlines())
    meanings = afbench("list", "defences").out
    assert "  jpeg[:QUALITY]" in meanings and "save and reload as JPEG" in meanings
    assert "the ANSM paper's Table III" in afbench("list", "plans", "--wide").out.replace("\n", " ")


@pytest.mark.parametrize(
    "command", [("plan", "--plan", "ansm-table3"), ("plan", "--plan", "demo"), ("weights", "list")]
)
def test_plans_and_lists_of_weights_fit(afbench, command):
    lines = afbench(*command).out.splitlines()
    assert lines and max(map(len, lines)) <= WIDTH


def test_stats_fit_on_the_command_line_unless_wide_is_asked_for(afbench, made):
    narrow, wide = afbench("stats", made.folder).out, afbench("stats", made.folder, "--wide").out
    assert_fits(narrow)
    assert max(map(len, wide.splitlines())) > WIDTH and len(wide.split("\n\n")[0].splitlines()) == 1 + 6
