"""scripts/gpu_check without a GPU: every section runs in tiny sizes, and a section that fails takes no other with it."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afbench.core import UsageError

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def part():
    """A module of the check by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield lambda name: importlib.import_module(f"gpu_parts.{name}")


def check(*arguments):
    command = [sys.executable, str(SCRIPTS / "gpu_check"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_every_section_runs_in_tiny_sizes_and_writes_what_it_prints(tmp_path):
    done = check("--tiny", "--device", "cpu", "--out", tmp_path / "gpu.md")
    assert done.returncode == 0, done.stderr[-3000:]
    report = (tmp_path / "gpu.md").read_text()
    assert report == done.stdout
    headings = [line[3:] for line in report.splitlines() if line.startswith("## ")]
    assert len(headings) == 10 and headings[0] == "Tests that need a GPU"
    assert "| 3 | 1 | 3 of 3 | holds |" in report  # memory ran out, and every image was stored
    assert "| reference | fp32 | yes | 0.0000 | holds |" in report
    assert report.count(": equal |") == 1 and "DIFFERENT" not in report


def test_a_section_that_hangs_crashes_or_fails_takes_no_other_with_it(part, tmp_path, capfd):
    limits, growing = part("limits"), part("report")

    def hangs(report, scale):
        child = subprocess.Popen(["sleep", "600"])
        report.line(f"| {child.pid} |")
        time.sleep(600)

    def crashes(report, scale):
        os._exit(9)

    def fails(report, scale):
        raise ValueError("no such kernel")

    def works(report, scale):
        report.line("| 42 |")

    sections = [
        limits.Section("hangs", 1.0, hangs),
        limits.Section("crashes", 30, crashes),
        limits.Section("fails", 30, fails),
        limits.Section("works", 30, works),
    ]
    path = tmp_path / "report.md"
    report, scale = growing.Report(path), growing.Scale("cpu", True)
    assert limits.run_sections(sections, report, scale, seconds=60) == ["hangs", "crashes", "fails"]
    lines = path.read_text().splitlines()
    assert "**hangs: stopped after 1 s; what stands above was measured.**" in lines
    assert "**crashes: failed with exit code 9; standard error says why.**" in lines
    assert "| 42 |" in lines
    assert "no such kernel" in capfd.readouterr().err
    child = Path(f"/proc/{lines[0].strip('| ')}/status")
    assert not child.exists() or "Z (zombie)" in child.read_text()  # what a section started ends with it


def test_sections_for_which_no_time_is_left_are_named(part, tmp_path):
    limits, growing = part("limits"), part("report")
    report, scale = growing.Report(tmp_path / "report.md"), growing.Scale("cpu", True)
    section = limits.Section("late", 30, lambda report, scale: report.line("ran"))
    assert limits.run_sections([section], report, scale, seconds=0) == ["late"]
    assert "**late: not run: no time left.**" in (tmp_path / "report.md").read_text()


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 10)), min_size=1, max_size=12))
def test_time_under_several_kernels_counts_once(part, starts_and_lengths):
    spans = [(float(start), float(start + length)) for start, length in starts_and_lengths]
    ticks = {tick for start, length in starts_and_lengths for tick in range(start, start + length)}
    covered, whole = part("attacks_speed").covered_time(spans)
    assert covered == len(ticks)
    assert whole == max(ticks) + 1 - min(ticks)


def test_a_profile_without_kernels_is_no_busy_device(part):
    with pytest.raises(ValueError, match="recorded no kernel"):
        part("attacks_speed").covered_time([])


def test_a_machine_that_lacks_packages_and_wheels_is_told_how_to_get_them(part, tmp_path):
    with pytest.raises(SystemExit, match=r"holds no wheels; run `scripts/gpu_check --wheels`"):
        part("wheels").install(tmp_path, tmp_path / "site")
    (tmp_path / "broken-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(SystemExit, match="pip install failed: "):
        part("wheels").install(tmp_path, tmp_path / "site")


def test_wheels_have_the_versions_of_this_environment(part):
    wheels = part("wheels")
    assert wheels.missing_modules() == []
    assert len(wheels.requirements()) == len(wheels.PACKAGES)
    assert all("==" in requirement for requirement in wheels.requirements())


def test_what_is_measured_again_can_be_named(part, monkeypatch):
    rates, growing = part("rates"), part("report")
    measured = []
    monkeypatch.setattr(rates, "matrix_rate", lambda precision, scale: 1.0)
    monkeypatch.setattr(
        rates,
        "_localizer_rows",
        lambda name, form, ceiling, scale: measured.append((name, str(form), *ceiling)) or [],
    )
    named = growing.Scale("cuda", False, ["pscc", "ifosn"], ["bf16"])
    rates.gradient_rates(growing.Report(), named)
    rates.compiled_rates(growing.Report(), named)
    forms = [(name, form, "bf16") for form in ("eager", "compiled") for name in ("pscc", "ifosn")]
    assert measured == forms
    measured.clear()
    rates.gradient_rates(growing.Report(), growing.Scale("cuda", False))
    assert measured[0] == ("mvss", "eager", "fp32", "tf32", "bf16") and len(measured) == 9 + 3


def test_a_localizer_without_kernels_that_repeat_is_measured_with_others(part, monkeypatch):
    rates, growing = part("rates"), part("report")

    def rate(localizer, batch, side, precision, form, scale):
        if form.deterministic:
            raise UsageError("on a GPU this run needs pooling; give --no-deterministic")
        return 2.0

    monkeypatch.setattr(rates, "_rate", rate)
    rows = list(rates._localizer_rows("reference", rates.Form(), {"fp32": 1e12}, growing.Scale("cpu", True)))
    assert [row[3] for row in rows] == ["eager", "eager, not deterministic"]
    assert "needs pooling" in rows[0][5] and rows[1][5] == "2"


def test_the_script_says_how_it_is_called_and_refuses_what_it_does_not_know():
    assert check("--help").stdout.startswith("usage: scripts/gpu_check [-h] [--wheels")
    assert check("--only", "everything").returncode == 2
    unknown = check("--device", "cpu", "--localizers", "mvsss")
    assert unknown.returncode == 2 and unknown.stderr.startswith(
        "localizer 'mvsss' is unknown; known localizers: "
    )
