"""What belongs to a built-in attack, localizer, layout, defence or metric is there: documents, tests, the row of `list`, manifests."""

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

import attacks
from afbench.defences import names as defence_table
from afbench.defences import registry
from afbench.engine import grid
from afbench.localizers import known_localizers
from afbench.naming import ALIASES
from afbench.plans import BUILT_IN, SOURCE_NAMES
from afbench.resources import resource_json
from afbench.scoring.score_tables import _OF_MASKS
from afbench.sources.layouts import LAYOUTS, load_layout

ROOT = Path(__file__).resolve().parent.parent
OWN_LAYOUTS = ("folder", "list", "hf")
"""Layouts of a user's own images, which have no release and so no manifest."""
GUIDE = "see 'Where something new goes' in docs/architecture.md"


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def without_row(names: Iterable[str], text: str) -> list[str]:
    """List the names that begin no row of a table in a page, as `` `name` `` or `` `name:SETTING` `` in the first column."""
    first_columns = " ".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    return [name for name in names if not re.search(rf"`{re.escape(name)}[`:\[]", first_columns)]


def unnamed(names: Iterable[str], *files: str) -> list[str]:
    """List the names that no file holds as a word."""
    text = "\n".join(page(file) for file in files)
    return [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]


def listed(afbench, what: str) -> list[str]:
    ran = afbench("list", what, "--json")
    assert ran.code == 0, ran.err
    return [re.split(r"[\[:]", name)[0] for name in json.loads(ran.out)[what]]


def test_a_missing_row_is_found() -> None:
    assert without_row(["bim", "new"], "| `bim` | x |\n| `other` | new `new` |\n`new`") == ["new"]
    assert without_row(["jpeg", "tv"], "| `jpeg:QUALITY`, `tv` | x |") == []
    assert unnamed(["parse_attack", "nowhere" + "_named"], "tests/test_additions.py") == [
        "nowhere" + "_named"
    ]


def test_every_attack_has_its_function_a_call_a_document_and_tests(afbench) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "attacks"))
    try:
        attack_lab = importlib.import_module("attack_lab")
    finally:
        sys.path.pop(0)
    tried = {row.name for row in attack_lab.ATTACKS}
    assert {*grid._ATTACKS, "cw"} == {*BUILT_IN}, (
        f"engine/grid.py calls other attacks than plans know; {GUIDE}"
    )
    assert [name for name in BUILT_IN if not callable(getattr(attacks, name, None))] == []
    assert sorted({*BUILT_IN} - tried - {*attack_lab.UNTRIED}) == [], (
        f"no row in tests/attacks/attack_lab.py; {GUIDE}"
    )
    assert without_row(BUILT_IN, page("docs/attacks.md")) == [], f"no row in docs/attacks.md; {GUIDE}"
    assert {*BUILT_IN} <= {*listed(afbench, "attacks")}
    for name in BUILT_IN:
        assert "Source:" in (inspect.getdoc(getattr(attacks, name)) or "") or name in attack_lab.UNTRIED, name


@pytest.mark.parametrize("name", resource_json("localizers"))
def test_every_published_localizer_has_its_network_a_document_and_tests(afbench, name) -> None:
    assert (ROOT / f"afbench/localizers/{name}.py").is_file(), f"no recipe; {GUIDE}"
    assert (ROOT / f"afbench/localizers/nets/{name}_net.py").is_file(), f"no network; {GUIDE}"
    assert without_row([name], page("docs/localizers.md")) == [], f"no row in docs/localizers.md; {GUIDE}"
    tables = {"GAIN": "tests/localizers/fill.py", "SIZES": "tests/localizers/test_published.py"}
    for table, file in tables.items():
        block = page(file).split(f"\n{table} = {{")[1].split("\n}")[0]
        assert f'"{name}":' in block, f"no row in {table} of {file}; {GUIDE}"
    golden = [path.name for path in (ROOT / "tests/localizers/golden").glob(f"{name}*")]
    assert golden, f"nothing in tests/localizers/golden says what the official network computes; {GUIDE}"
    assert name in listed(afbench, "localizers") and name in known_localizers()


def test_every_recipe_of_a_localizer_has_a_manifest() -> None:
    recipes = {
        path.stem
        for path in (ROOT / "afbench/localizers").glob("*.py")
        if re.search(r"^RECIPE\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert recipes == {*resource_json("localizers")}, f"manifests/localizers lacks or has more; {GUIDE}"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_has_a_manifest_a_document_and_tests(afbench, name) -> None:
    assert load_layout(name).EXPECTS and (name == "hf" or callable(load_layout(name).entries))
    assert without_row([name], page("docs/sources.md")) == [], f"no row in docs/sources.md; {GUIDE}"
    assert name in listed(afbench, "sources"), f"no row in `afbench list`; {GUIDE}"
    if name in OWN_LAYOUTS:
        tests = {"folder": "test_folder_layout", "list": "test_lists", "hf": "test_hf"}
        assert (ROOT / f"tests/sources/{tests[name]}.py").is_file()
        return
    assert name in resource_json("sources"), f"no manifests/sources/{name}.json; {GUIDE}"
    block = page("tests/sources/test_index_command.py").split("\nRELEASES = {")[1].split("\n}")[0]
    assert f'    "{name}":' in block, f"no row in RELEASES of tests/sources/test_index_command.py; {GUIDE}"
    named_in_tests = [
        path.name
        for path in (ROOT / "tests/sources").glob("test_*.py")
        if path.stem != "test_index_command" and re.search(rf"\b{name}\b", path.read_text(encoding="utf-8"))
    ]
    assert named_in_tests, f"no test reads an imitation of {name}; {GUIDE}"


def test_every_manifest_of_a_source_has_a_layout() -> None:
    assert {*resource_json("sources")} | {*OWN_LAYOUTS} == {*LAYOUTS}
    assert {*SOURCE_NAMES} - {*LAYOUTS} == {"synthetic", "demo"}


def test_every_defence_has_its_function_a_document_and_a_test_of_its_values(afbench) -> None:
    transforms = [*defence_table.TRANSFORMS]
    assert transforms == [*registry._TABLE], f"defences/names.py and defences/registry.py differ; {GUIDE}"
    names = defence_table.defence_names()
    assert without_row(names, page("docs/defences.md")) == [], f"no row in docs/defences.md; {GUIDE}"
    assert {*names} <= {*listed(afbench, "defences")}
    functions = [registry._TABLE[name].transform.__name__ for name in transforms]
    files = ("tests/defences/test_transforms.py", "tests/test_predict.py")
    assert unnamed(functions, *files) == [], f"no test compares values; {GUIDE}"
    for name in transforms:
        assert "Source:" in (inspect.getdoc(registry._TABLE[name].transform) or ""), name


def test_every_metric_of_masks_has_a_document_and_is_compared_with_another_library() -> None:
    scores = [*_OF_MASKS]
    defined = re.findall(r"\*\*(\w+)\*\*", page("docs/glossary.md").lower())
    assert sorted({*scores} - {*defined}) == [], f"docs/glossary.md lacks it; {GUIDE}"
    compared = (
        page("tests/test_metrics.py")
        .split("def test_scores_equal_those_of_scikit_learn")[1]
        .split("\ndef ")[0]
    )
    assert [name for name in scores if f"{name}(" not in compared] == [], f"not compared; {GUIDE}"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("attack", BUILT_IN),
        ("localizer", tuple(known_localizers())),
        ("source", (*SOURCE_NAMES, *resource_json("sources"))),
        ("defence", tuple(defence_table.defence_names())),
    ],
)
def test_no_alias_leads_to_a_name_that_is_gone(kind, names) -> None:
    assert {*ALIASES[kind]} <= {*names}
