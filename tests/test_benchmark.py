"""scripts/benchmark on next to nothing: what it counts and compares must be right; how fast it is, is not tested."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager, nullcontext
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from afbench.engine.io_pool import inline
from afbench.plans import expand_attack

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def part():
    """A module of the benchmark by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield lambda name: importlib.import_module(f"benchmark_parts.{name}")


@pytest.fixture(scope="module")
def script(part):
    loader = SourceFileLoader("benchmark_script", str(SCRIPTS / "benchmark_tables"))
    spec = spec_from_loader(loader.name, loader)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def cells(table):
    return [dict(zip(table.head, row, strict=True)) for row in table.rows]


def test_sides_take_turns_and_ratios_are_of_neighbouring_runs(part):
    clock = part("clock")
    order = []
    seconds = iter([2.0, 1.0, 1.0, 3.0])

    def timed(work):
        work()
        return next(seconds)

    found = clock.paired(
        lambda: order.append("ours"), lambda: order.append("theirs"), clock=timed, repeats=2, warm=False
    )
    assert order == ["theirs", "ours", "ours", "theirs"]
    assert found.ratios == [2.0 / 1.0, 3.0 / 1.0]
    assert (found + found).afbench == [2.0, 2.0]


def test_every_attack_is_as_strong_as_that_of_the_other_libraries(part):
    peers, clock = part("peers"), part("clock").Clock()
    table = peers.table(images=1, judged_images=2, side=48, steps=2, repeats=1, clock=clock)
    rows = cells(table)
    assert [row["attack"] for row in rows] == [name for name in peers.ATTACKS for _ in peers.PEERS]
    for row in rows:
        if "does not run" in row["ms per gradient"]:
            assert row["library"] == "foolbox" or "ModuleNotFoundError" in row["ms per gradient"]
        elif row["attack"] in ("fgsm", "bim"):  # nothing random
            assert row["F1 theirs"] == row["F1 afbench"] != "nan"


def test_strength_is_compared_at_the_same_number_of_gradients(part, monkeypatch):
    monkeypatch.setattr("afbench.engine.grid.STEPS", 1)
    monkeypatch.setitem(sys.modules, "foolbox", None)
    strength = part("strength")
    table = strength.table(images=2, at_once=1, side=32, clock=part("clock").Clock(), steps=3)
    rows = cells(table)
    assert [row["attack"] for row in rows] == [row[0] for row in strength.ROWS]
    (foolbox,) = [row for row in rows if row["library"] == "foolbox"]
    assert "does not run: ModuleNotFoundError" in foolbox["gradients"]
    for row in (row for row in rows if row["library"] == "afbench"):
        assert 0 <= float(row["F1 left"]) <= 1 and float(row["s per image"].split()[0]) > 0
    taken = {row["attack"]: float(row["taken"]) for row in rows if row["library"] == "afbench"}
    # one step for each member and on the grid, unless F1 is 0 before
    assert taken["bim"] == 3 and 1 <= taken["strong"] <= 8


@pytest.mark.parametrize("loss", ["bce", "soft-f1"])
def test_libraries_for_classification_raise_the_loss_of_each_image(part, loss):
    strength, pictures = part("strength"), part("pictures")
    localizer = pictures.a_localizer("reference", "cpu")
    batch = pictures.as_batch(pictures.pictures(2, 32), "cpu")
    image = batch.image.clone().requires_grad_()
    logits = strength.ImageLogits(localizer, batch.mask, loss)(image)
    cross_entropy = torch.nn.functional.cross_entropy(
        logits, torch.zeros(2, dtype=torch.int64), reduction="none"
    )
    expected = strength.LOSSES[loss](localizer.logits(image), batch.mask)
    assert torch.allclose(cross_entropy, expected, rtol=1e-4, atol=1e-6)
    gradients = [
        torch.autograd.grad(values.sum(), image, retain_graph=True)[0] for values in (cross_entropy, expected)
    ]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("side", [32, 128, 300])
def test_every_picture_shows_something_forged_and_something_else(part, side):
    for sample in part("pictures").pictures(8, side):
        assert sample.image.shape == (side, side, 3) and sample.mask.shape == (side, side)
        assert sample.mask.any() and sample.mask.min() == 0


def test_a_library_that_is_missing_gets_a_line(part, monkeypatch):
    monkeypatch.setitem(sys.modules, "foolbox", None)
    peers = part("peers")
    table = peers.table(
        images=1,
        judged_images=1,
        side=32,
        steps=1,
        repeats=1,
        clock=part("clock").Clock(),
        peers=("foolbox",),
    )
    assert all("does not run: ModuleNotFoundError" in row["ms per gradient"] for row in cells(table))


def test_the_grid_counts_what_each_side_really_took(part):
    settings = [
        *expand_attack("fgsm"),
        *expand_attack("bim", params={"steps": 2}),
        *expand_attack("pgn", params={"steps": 1, "neighbours": 2}),
        *expand_attack("cw", steps=[1, 2]),
    ]
    table = part("paper_grid").table(
        images=2, side=32, repeats=1, clock=part("clock").Clock(), settings=settings
    )
    counts = {row["part"]: (row["gradients alone"], row["shared"]) for row in cells(table)}
    assert counts == {
        "sign": ("9", "4"),
        "pgn": ("12", "12"),
        "cw": ("3", "2"),
        "without PGN": ("12", "6"),
        "with PGN": ("24", "18"),
    }


def test_the_grid_that_is_measured_is_the_paper_s(part):
    assert len(part("paper_grid").paper_settings()) == 20


def test_time_inside_the_localizer_is_a_part_of_the_whole_run(part):
    clock = part("clock").Clock(processor=True)
    table = part("pipeline").table(images=1, side=64, repeats=1, clock=clock, attacks=("fgsm", "pgd"))
    fgsm, pgd = cells(table)
    assert (fgsm["gradients per image"], pgd["gradients per image"]) == ("1", "30")
    assert 0 < float(fgsm["% gradients"]) < float(pgd["% gradients"]) < 100
    assert 0 < float(pgd["% scoring passes"]) < 100 and fgsm["target"] == ""


def test_rates_are_measured_for_every_batch_size(part):
    scaling, clock = part("scaling"), part("clock").Clock()
    table = scaling.batches(sizes=[(32, 1), (32, 2)], repeats=1, clock=clock)
    assert [row[:2] for row in table.rows] == [["32", "1"], ["32", "2"]]
    assert all(float(row[2]) > 0 for row in table.rows)


def test_rates_are_measured_for_every_setting_of_threads_beside_other_processes(part, monkeypatch):
    threads = part("threads")
    running = []

    @contextmanager
    def others(number):
        running.append(number)
        yield

    monkeypatch.setattr(threads, "_process", lambda setting: nullcontext(SimpleNamespace(submit=inline)))
    monkeypatch.setattr(threads, "_spinning_processes", others)
    monkeypatch.setattr(threads, "LEAST_SECONDS", 0.001)
    table = threads.table(sizes=[(32, 1), (32, 2)], spinning=[0, 1], repeats=1)
    assert [row[:3] for row in table.rows] == [
        ["0", "32", "1"],
        ["0", "32", "2"],
        ["1", "32", "1"],
        ["1", "32", "2"],
    ]
    assert running == [0, 1] and all(
        float(row[name]) > 0 for row in cells(table) for name in threads.SETTINGS
    )


def test_a_setting_of_threads_is_the_only_one_in_its_process(part, monkeypatch):
    threads = part("threads")
    for name in threads.READ_BY_LIBRARIES:
        monkeypatch.setenv(name, "1")
    with threads._process({"OMP_WAIT_POLICY": "PASSIVE"}) as pool:
        found = [pool.submit(os.getenv, name).result() for name in threads.READ_BY_LIBRARIES]
    assert found == ["PASSIVE", None, None, None, None]
    assert os.environ["OMP_WAIT_POLICY"] == "1"


def test_processes_that_spin_are_gone_afterwards(part):
    with part("threads")._spinning_processes(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert all(process.returncode is not None for process in processes)


def test_memory_is_that_of_a_whole_run(part, tmp_path):
    seconds, peak = part("scaling")._run(2, 2, part("clock").Clock())
    assert seconds > 0 and peak > 50


def test_the_script_sets_itself_up_and_hands_its_arguments_on(tmp_path):
    (tmp_path / "scripts").mkdir()
    for name in ("benchmark", "setup"):
        shutil.copy(SCRIPTS / name, tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho python "$@"\n')
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    command = [tmp_path / "scripts" / "benchmark", "--only", "grid"]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2)]
    assert all(run.stdout == "python scripts/benchmark_tables --only grid\n" for run in runs)
    # pip is called by the first run only
    assert ["pip install" in run.stderr for run in runs] == [True, False]


def test_the_script_says_how_it_is_called(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmark", "--help"])
    with pytest.raises(SystemExit) as end:
        script.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: scripts/benchmark [-h] [--quick]")


def test_the_script_prints_markdown_and_json(script, part, monkeypatch, capsys):
    table = part("table").Table("Title", ("a", "b"), [["1", "2"]], "A note.")
    asked = []
    monkeypatch.setattr(script, "measure", lambda name, **options: asked.append((name, options)) or table)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--quick", "--only", "grid"])
    script.main()
    told = capsys.readouterr().out
    assert "torchattacks" in told and "## Title" in told and "| 1 | 2 |" in told
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", "--processor-time"])
    script.main()
    told = json.loads(capsys.readouterr().out)
    assert told["tables"][0]["rows"] == [{"a": "1", "b": "2"}]
    assert [name for name, _ in asked] == ["grid", *script.PARTS]
    assert asked[0][1]["quick"] and not asked[1][1]["quick"] and asked[1][1]["clock"].processor
