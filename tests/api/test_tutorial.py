"""``docs/tutorial.ipynb``: kept without outputs, and executed as a user would."""

import ast
from pathlib import Path

import nbformat
import pytest

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_the_notebook_parses_and_is_kept_without_outputs(notebook):
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    for cell in cells:
        assert cell.outputs == [] and cell.execution_count is None
        ast.parse(cell.source)


@pytest.mark.slow
def test_the_notebook_runs_and_runs_again_on_what_it_made(notebook, tmp_path):
    from nbclient import NotebookClient

    for _ in range(2):
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        pictures = [output for output in outputs if "image/png" in output.get("data", {})]
        assert len(pictures) == 2
        assert not [output for output in outputs if output.output_type == "error"]
    assert (tmp_path / "afbench-tutorial" / "benchmark" / "MANIFEST.json").is_file()
