"""The way to the helpers beside the tests, and localizers that cost nothing."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

# --import-mode=importlib does not put a test's folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published localizers that do everything but compute their network."""
    from stand_in import StandIn

    from afbench.localizers import load

    recipe: Callable = load.recipe
    monkeypatch.setattr(
        load, "recipe", lambda name: replace(recipe(name), network=StandIn, settle=lambda network: None)
    )


@pytest.fixture
def shrunken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published networks with all their entries, of which the large ones are cut: they can be saved and loaded, not run."""
    from tiled import shrunken_network

    from afbench.localizers import load

    recipe: Callable = load.recipe
    monkeypatch.setattr(
        load, "recipe", lambda name: replace(recipe(name), network=lambda: shrunken_network(name))
    )
