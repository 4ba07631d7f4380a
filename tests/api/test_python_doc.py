"""The examples of docs/python.md and of the README's section on Python, run in order."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _examples(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_the_examples_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    text = (ROOT / page).read_text(encoding="utf-8")
    if page == "README.md":
        text = text.partition("## From Python")[2].partition("\n## ")[0]
    names = {}
    for number, example in enumerate(_examples(text)):
        # the source of a function is recorded, so it must be readable
        path = tmp_path / f"example_{number}.py"
        path.write_text(example)
        exec(compile(example, str(path), "exec"), names)
    assert "afbench" in names
