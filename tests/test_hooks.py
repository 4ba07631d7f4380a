"""The hooks of pre-commit run the tools of .venv, else of the environment that is active."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that nobody set up, whose path has a space."""
    top = tmp_path / "my checkout"
    (top / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "tool", top / "scripts")
    return top


def _put(path: Path, word: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\necho {word} "$@"\n')
    path.chmod(0o755)


def _run(checkout: Path, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{path}:{os.defpath}"}
    return subprocess.run(
        ["scripts/tool", *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_hook_runs_a_tool_of_the_environment() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[1] for hook in hooks} == {"ruff", "mypy", "lint-imports"}
    assert {hook["entry"].split()[0] for hook in hooks} == {"scripts/tool"}


def test_a_tool_of_the_active_environment_runs_where_there_is_no_venv(checkout: Path, tmp_path: Path) -> None:
    _put(tmp_path / "bin" / "ruff", "active")
    assert _run(checkout, tmp_path / "bin", "ruff", "check", "a b.py").stdout == "active check a b.py\n"
    _put(checkout / ".venv" / "bin" / "ruff", "own")
    assert _run(checkout, tmp_path / "bin", "ruff", "check").stdout == "own check\n"


def test_a_tool_that_is_nowhere_says_how_to_get_it(checkout: Path, tmp_path: Path) -> None:
    ran = _run(checkout, tmp_path, "no-such-tool")
    assert ran.returncode == 1 and "no-such-tool is not installed; run: pip install -e '.[dev]'" in ran.stderr
