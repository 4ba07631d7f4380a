"""Functions around a benchmark: sources, listings, weights, an attack of one's own, publishing."""

import importlib
import json

import huggingface_hub
import pytest
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

import afbench as library
from afbench.localizers.register import Registered

UNCHANGING = """
import afbench

def still(loss, image, *, phi, steps=1):
    return image

def build():
    return afbench.as_attack(still, name="still", gradients=0)
"""


def test_a_source_is_indexed_as_the_command_does(photographs, afbench, tmp_path):
    indexed = library.index("folder", root=photographs, out=tmp_path / "folder.json", quiet=True)
    printed = afbench("index", "folder", "--root", photographs, "--json", "--quiet")
    assert json.loads(printed.out) == indexed.as_json() == json.loads((tmp_path / "folder.json").read_text())
    samples = indexed.to_pandas()
    assert samples.id.tolist() == ["photo0", "photo1", "photo2"]
    assert set(samples.status) == {"included"} and indexed.warnings == []


def test_a_source_that_cannot_be_used_is_refused_with_its_samples(photographs, afbench):
    with pytest.raises(library.AfbenchError, match=r"3 forged samples are included, expected 4") as refused:
        library.index("folder", root=photographs, expect_count=4, quiet=True)
    assert len(refused.value.indexed.to_pandas()) == 3
    printed = afbench("index", "folder", "--root", photographs, "--expect-count", "4")
    assert printed.code == 1 and "included  3 forged" in printed.out
    assert printed.err.splitlines()[-1] == f"afbench: error: {refused.value}"


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"source": 3}, "source must be a text; found int 3"),
        ({"workers": 0}, "--workers must be a whole number from 1 up; found 0"),
        ({"expect_count": "3"}, "expect_count must be a whole number or None; found str '3'"),
        ({"mask_threshold": 0.5}, "mask_threshold must be a whole number or None; found float 0.5"),
        ({"max_side": "512"}, "max_side must be a whole number or None; found str '512'"),
        ({"source": "demo"}, "comes with afbench"),
        ({"source": "tests"}, "for your own images there write: afbench index folder --root tests"),
        ({"out": "index.txt"}, "must be a .json file"),
    ],
)
def test_a_value_that_an_index_cannot_use_is_refused_in_one_line(
    keywords, message, photographs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").mkdir()
    with pytest.raises(library.UsageError) as refused:
        library.index(**{"source": "folder", "root": photographs, "quiet": True, **keywords})
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_what_is_known_is_listed_as_the_command_does(afbench):
    assert json.loads(afbench("list", "--json").out) == library.list().entries
    attacks = library.list("attacks").to_pandas()
    assert set(attacks.kind) == {"attacks"} and {"fgsm", "cw"} <= set(attacks.name)


def test_weights_are_listed_and_checked_as_the_commands_do(afbench, monkeypatch, tmp_path):
    monkeypatch.setenv("AFBENCH_WEIGHTS", str(tmp_path / "weights"))
    table = library.weights.list()
    printed = json.loads(afbench("weights", "list", "--json").out)
    assert printed == {"folder": str(table.folder), "weights": table.rows}
    assert table.to_pandas().set_index("name").registered.isna().all()
    assert library.weights.remove("mvss") is False
    with pytest.raises(library.UsageError, match="is no published localizer"):
        library.weights.add("reference", tmp_path / "weights.pt")
    monkeypatch.setattr(
        "afbench.localizers.register.add_weights",
        lambda name, file, overwrite: Registered(
            name=name, file=str(file), weights_sha256="", origin="", origin_sha256=str(overwrite), added=""
        ),
    )
    added = library.weights.add("mvss", "released.pt", overwrite=True)
    assert (added.name, added.file, added.origin_sha256) == ("mvss", "released.pt", "True")


def test_a_localizer_is_checked_promise_by_promise(afbench):
    findings = []
    checked = library.weights.check("reference", on_finding=findings.append)
    assert checked.passed and list(checked.findings) == findings
    printed = afbench("weights", "check", "reference")
    assert [line.partition(":")[0] for line in printed.out.splitlines()] == [
        f"ok      {name}" for name in checked.to_pandas().name
    ]
    with pytest.raises(library.UsageError, match="name must be a text; found ReferenceLocalizer"):
        library.weights.check(library.load_localizer("reference"))


def test_an_attack_of_ones_own_is_tried_by_name_and_as_made(module, afbench):
    name = module(UNCHANGING)
    checked = library.check_attack(f"{name}:build")
    assert not checked.passed
    printed = afbench("check-attack", f"{name}:build", "--json")
    assert printed.code == 1 and json.loads(printed.out) == checked.to_pandas().to_dict("records")
    made = library.check_attack(importlib.import_module(name).build())
    assert made.findings == checked.findings
    printed = afbench("check-attack", "afbench.engine.example_attack:build", "--wide")
    passing = library.check_attack("afbench.engine.example_attack:build")
    assert passing.passed and printed.code == 0
    assert printed.out.splitlines() == [f"ok      {finding.name}" for finding in passing.findings]
    with pytest.raises(library.UsageError, match="'fgsm' ships with afbench"):
        library.check_attack("fgsm")


def test_publishing_sends_nothing_unless_told(made, afbench, monkeypatch):
    arguments = {"to": "user/name", "i_may_share": True, "quiet": True}
    pushed = library.push(made.folder, **arguments)
    printed = afbench("push", made.folder, "--to", "user/name", "--i-may-share", "--json", "--quiet")
    assert json.loads(printed.out) == pushed.as_json() and pushed.url is None
    assert pushed.to_pandas().bytes.sum() == pushed.upload.bytes

    class NoToken(huggingface_hub.HfApi):
        def whoami(self, *_, **__):
            assert are_progress_bars_disabled()
            raise huggingface_hub.errors.LocalTokenNotFoundError

    monkeypatch.setattr("huggingface_hub.HfApi", NoToken)
    with pytest.raises(library.UsageError, match="no Hugging Face token"):
        library.push(made.folder, yes=True, **arguments)
    assert not are_progress_bars_disabled()
