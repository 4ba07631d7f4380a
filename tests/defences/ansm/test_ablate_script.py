"""scripts/ablate_ansm: rows that differ in what they name alone, one table, and a run that goes on."""

import subprocess
import sys
from dataclasses import asdict
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from afbench.defences import load_defence

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "ablate_ansm"


@pytest.fixture(scope="module")
def script():
    loader = SourceFileLoader("ablate_ansm", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_every_row_has_the_budget_and_differs_in_what_it_names_alone(script):
    settings = {name: script.settings_of(row, 150) for name, row in script.ROWS.items()}
    for name, row in script.ROWS.items():
        assert sum(stage.steps for stage in settings[name].stages) == 150, name
        assert settings[name].stages[0].lr == script.RATE, name
        changed = {
            key
            for key, value in asdict(settings[name]).items()
            if value != asdict(settings["ffa"])[key] and key not in ("steps", "lr")
        }
        assert changed == {
            key for key, value in row.settings.items() if value != getattr(settings["ffa"], key)
        }
    assert [stage.loss for stage in settings["ffa-mgr-mo"].stages] == ["ffa", "mgr"]
    assert settings["mgr-mo"].mgr_mask == "predicted" and settings["mgr-gt"].mgr_mask == "gt"
    assert all(row.dice == "squares" and row.ffa_mask == 0 for row in settings.values()), "the paper's losses"


def test_the_table_has_a_row_for_each_module_with_intervals(script):
    record = {"f1": 0.5, "f1_ci": (0.4, 0.6), "rp": 62.4, "rp_ci": (50.0, 75.0)}
    records = [{**record, "attack": attack} for attack in script.ATTACKS]
    lines = script.markdown({"none": records, "ffa": records}).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert "the bare localizer" in lines[2] and "FFA, middle" in lines[3]
    assert lines[3].count("0.500 (0.400 to 0.600), RP 62 (50 to 75)") == len(script.ATTACKS)


def test_a_budget_of_no_two_stages_is_refused(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--budget", "1"])
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 2 and "--budget must be at least 2 steps" in capsys.readouterr().err


def test_rows_are_trained_on_the_same_pictures_and_load_as_defences(script, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # of the parts that scripts share
    options = {"pictures": 6, "budget": 2, "workers": 1, "device": "cpu"}
    folders = script.train_rows(tmp_path, ["pwr", "ffa-mgr-gt"], **options)
    for name, folder in folders.items():
        module = load_defence(f"ansm:{folder}", localizer=script.LOCALIZER)
        card = module.network.card
        assert card["settings"]["loss"] == script.ROWS[name].settings["loss"]
        assert card["data"]["pairs"] == 6


@pytest.mark.slow
def test_a_tiny_run_prints_the_table_and_goes_on_to_the_same_one(tmp_path):
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(tmp_path / "out"), "--workers", "1"]
    command += ["--rows", "pwr", "ffa-mgr-mo"]
    tables = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert tables[0] == tables[1] and len(tables[0].splitlines()) == 5
