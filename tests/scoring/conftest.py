"""A tiny benchmark and valid submissions, and the way to ``submissions`` in importlib mode."""

import sys
from pathlib import Path

import pytest

# --import-mode=importlib does not put a test's folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from submissions import make_benchmark, make_submission


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark of two localizers; not to be changed."""
    return make_benchmark(tmp_path_factory.mktemp("scoring") / "bench")


@pytest.fixture
def submission(bench: Path, tmp_path: Path) -> Path:
    """A valid submission of one localizer, to be changed at will."""
    return make_submission(tmp_path / "submission", bench)
