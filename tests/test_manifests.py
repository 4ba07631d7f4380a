"""What is committed as data follows its schema."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from afbench.core import UsageError
from afbench.plans import list_plans, read_plan
from afbench.resources import resource_json, resource_path
from afbench.schemas import schema_problem, schema_problems


@pytest.mark.parametrize("folder", ["sources", "localizers"])
def test_every_manifest_follows_its_schema_and_is_named_after_its_file(folder):
    schema = json.loads(resource_path(f"manifests/schema/{folder[:-1]}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    found = resource_json(folder)
    assert found
    for name, manifest in found.items():
        Draft202012Validator(schema).validate(manifest)
        assert manifest["name"] == name


def test_one_module_checks_schemas():
    package = Path(__file__).resolve().parent.parent / "afbench"
    users = [path.name for path in package.rglob("*.py") if "jsonschema" in path.read_text(encoding="utf-8")]
    assert users == ["schemas.py"]


def test_the_plainest_problem_is_told_in_one_short_line():
    value = {"schema_version": 1, "files": {"a\u202e": {"bytes": "x" * 1000, "sha256": "0"}}, "extra": 1}
    assert schema_problem("manifest", value) == (
        "top level: Additional properties are not allowed ('extra' was unexpected)"
    )
    del value["extra"]
    lines = list(schema_problems("manifest", value))
    assert len(lines) == 2 and all(line.startswith("files/a\\u202e/") and len(line) <= 200 for line in lines)


def test_a_schema_can_be_asked_for_some_of_its_keys_only():
    assert schema_problem("manifest", {"schema_version": 1})
    assert not list(schema_problems("manifest", {"schema_version": 1}, required=("schema_version",)))
    assert list(schema_problems("manifest", {"schema_version": 2}, required=()))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("3", "blocks/0/sources/0: 3 is not of type 'string', 'object'"),
        ("{sourc: demo}", "blocks/0/sources/0: .*'sourc' was unexpected"),
        ("{source: demo, mask_threshold: 300}", "blocks/0/sources/0/mask_threshold: 300 is greater"),
        ("{source: demo, sha256: Q}", "blocks/0/sources/0/sha256: 'Q' does not match"),
    ],
)
def test_a_wrong_source_of_a_plan_is_told_by_its_own_key(tmp_path, source, message):
    path = tmp_path / "plan.yaml"
    path.write_text(
        f"name: x\nblocks:\n  - {{localizers: [reference], sources: [{source}], attacks: [{{attack: fgsm}}]}}\n"
    )
    with pytest.raises(UsageError, match=message):
        read_plan(str(path))


def test_every_shipped_plan_can_be_read():
    plans = list_plans()
    assert {"demo", "ansm-table3", "zoo"} <= plans.keys()
    for name, description in plans.items():
        assert read_plan(name).name == name
        assert description


def test_the_demo_plan_is_what_the_readme_promises():
    plan = read_plan("demo")
    (block,) = plan.blocks
    attacks = [setting.attack for setting in block.settings]
    assert plan.limit is not None and plan.limit >= 32
    assert {name: attacks.count(name) for name in attacks} == {
        "strong": 3, "fgsm": 3, "bim": 3, "pgd": 3, "mifgsm": 3, "pgn": 2, "cw": 1, "noise": 3,
    }  # fmt: skip
    assert {setting.params["neighbours"] for setting in block.settings if setting.attack == "pgn"} == {2}
