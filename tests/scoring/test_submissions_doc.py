"""docs/submissions.md: every command and program in it runs, in order, and its table knows every code."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from afbench.scoring.problems import TITLES

DOC = (Path(__file__).parents[2] / "docs/submissions.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


def test_every_code_is_explained():
    assert re.findall(r"^\| (AF\d{3}) \|", DOC, re.MULTILINE) == sorted(TITLES)


def test_every_command_and_program_runs(afbench, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    made = ("generate", "--localizer", "reference", "--attack", "fgsm", "--phi", "1/255", "--limit", "2")
    assert afbench(*made, "--source", "demo", "--out", "afbench-out/demo").code == 0
    told = []
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "submissions.md", "exec"), {})
            continue
        for line in block.splitlines():
            name, *arguments = shlex.split(line)
            if name != "afbench":
                subprocess.run([name, *arguments], check=True, cwd=tmp_path)
                continue
            ran = afbench(*arguments)
            assert ran.code == 0, f"{line}: {ran.out}{ran.err}"
            told.append(ran.out.splitlines()[0])
    assert len(told) == 4 and told[1] == "by-hand: valid, 4 masks" and told[2].startswith("images of")
    assert told[3] == "by-hand.tar.gz: valid, 4 masks"
    assert afbench("score", "submission", "--data", "afbench-out/demo", "--validate-only").code == 0


@pytest.mark.parametrize("name", ["submission", "score"])
def test_it_points_to_schemas_that_are_there(name):
    path = f"manifests/schema/{name}.schema.json"
    assert f"../{path}" in DOC and (Path(__file__).parents[2] / path).is_file()
