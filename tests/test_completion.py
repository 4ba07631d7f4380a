"""What a shell completes, and what ``dir(afbench)`` shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import afbench
from afbench.cli import cli

PROGRAM = Path(sys.executable).parent / "afbench"


def completed(*words):
    """The completions of the last word."""
    shell = ShellComplete(cli, {}, "afbench", "_AFBENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "there"),
    [
        (("gen",), "generate"),
        (("train", "an"), "ansm"),
        (("generate", "--loc"), "--localizer"),
        (("generate", "--localizer", "MV"), "mvss"),
        (("generate", "--attack", "mi"), "mifgsm"),
        (("generate", "--attack", "torchattacks:DI"), "torchattacks:DIFGSM"),
        (("generate", "--localizer", "mvss", "--source", "casia"), "casia_v1"),
        (("generate", "--through-defence", "jp"), "jpeg"),
        (("plan", "--plan", "ansm"), "ansm-table3"),
        (("plan", "--plan", "demo", "--only", "pg"), "pgd"),
        (("predict", "--defence", "med"), "median"),
        (("index", "cov"), "coverage"),
        (("weights", "add", "if"), "ifosn"),
        (("list", "def"), "defences"),
    ],
)
def test_names_are_completed(words, there):
    assert there in completed(*words)


def test_configs_of_the_folder_on_the_line_are_completed(made):
    assert completed("inspect", str(made.folder), "--config", "reference-f") == list(made.configs[1:3])
    assert completed("preview", str(made.folder), "--config", "reference-c") == ["reference-cw-2"]
    assert completed("inspect", "nowhere", "--config", "") == []


def test_a_shell_that_asks_does_not_wait_for_torch():
    line = "afbench generate --localizer mv"
    code = (
        "import sys\nfrom afbench.cli import main\n"
        "try: main()\nexcept SystemExit: pass\nprint('torch' in sys.modules)"
    )
    asked = {"_AFBENCH_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["plain,mvss", "False"]


def test_the_readme_tells_every_shell_how():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    for shell, word in (("bash", "complete"), ("zsh", "compdef"), ("fish", "complete")):
        assert re.search(rf"_AFBENCH_COMPLETE={shell}_source afbench", text)
        variables = {**os.environ, "_AFBENCH_COMPLETE": f"{shell}_source"}
        done = subprocess.run([PROGRAM], env=variables, capture_output=True, text=True, check=False)
        if "Bash version" not in done.stderr and "bash" not in done.stderr.lower():
            assert done.returncode == 0 and word in done.stdout and "afbench" in done.stdout


def test_dir_shows_what_the_package_has_without_importing_it():
    assert set(afbench.__all__) <= set(dir(afbench))
    code = "import afbench, sys; print('load_localizer' in dir(afbench), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
