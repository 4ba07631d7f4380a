"""A small benchmark to publish, and the same of sources with other terms."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from afbench.plans import Block, RunPlan, SourceSpec, expand_attack
from afbench.workflows.generation.finalise import finalise
from afbench.workflows.generation.generate import generate
from afbench.workflows.request import Options


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic forgeries under FGSM, in two shards; nobody writes into it."""
    out = tmp_path_factory.mktemp("publishing") / "out"
    settings = expand_attack("fgsm", phi=["1/255", "2/255"])
    plan = RunPlan("test", (Block(("reference",), (SourceSpec("synthetic", None),), settings),), limit=3)
    generate(plan, out, Options(checkpoint="random", shard_size=2))
    return out


@pytest.fixture
def folder(published_once: Path, tmp_path: Path) -> Path:
    """A copy of the benchmark."""
    return Path(shutil.copytree(published_once, tmp_path / "bench"))


@pytest.fixture
def of_terms(folder: Path) -> Callable[[str], Path]:
    """The benchmark as if its source had other terms: ``of_terms("forbidden")``."""

    def change(redistribution: str) -> Path:
        path = folder / "manifests" / "clean.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        for split in manifest["splits"].values():
            split |= {"redistribution": redistribution, "terms": "for research | alone"}
        path.write_text(json.dumps(manifest), encoding="utf-8")
        finalise(folder)
        return folder

    return change
