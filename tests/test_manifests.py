"""What is committed as data follows its schema."""

import json

import pytest
from jsonschema import Draft202012Validator

from afbench.plan import list_plans, read_plan
from afbench.resources import resource_json, resource_path


@pytest.mark.parametrize("folder", ["sources", "localizers"])
def test_every_manifest_follows_its_schema_and_is_named_after_its_file(folder):
    schema = json.loads(resource_path(f"manifests/schema/{folder[:-1]}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    found = resource_json(folder)
    assert found
    for name, manifest in found.items():
        Draft202012Validator(schema).validate(manifest)
        assert manifest["name"] == name


def test_every_shipped_plan_can_be_read():
    plans = list_plans()
    assert {"demo", "ansm-table3"} <= plans.keys()
    for name, description in plans.items():
        assert read_plan(name).name == name
        assert description


def test_the_demo_plan_is_what_the_readme_promises():
    plan = read_plan("demo")
    (block,) = plan.blocks
    attacks = [setting.attack for setting in block.settings]
    assert plan.limit is not None and plan.limit >= 32
    assert {name: attacks.count(name) for name in attacks} == {
        "fgsm": 3, "bim": 3, "pgd": 3, "mifgsm": 3, "pgn": 3, "cw": 5, "noise": 3,
    }  # fmt: skip
    assert {setting.params["neighbours"] for setting in block.settings if setting.attack == "pgn"} == {4}
