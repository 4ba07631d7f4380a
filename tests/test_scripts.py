"""Every Python script loads: what it imports of the library is there under that name."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
PYTHON_SCRIPTS = sorted(
    path.name
    for path in SCRIPTS.iterdir()
    if path.is_file() and path.read_text().startswith("#!/usr/bin/env python3")
)


@pytest.mark.parametrize("name", PYTHON_SCRIPTS)
def test_a_script_finds_everything_that_it_imports(name, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))  # of the parts that scripts share
    loader = SourceFileLoader(f"script_{name}", str(SCRIPTS / name))
    spec = spec_from_loader(loader.name, loader)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)  # dataclasses look for it there
    loader.exec_module(module)
    assert callable(module.main)
