"""Threads of our processes wait asleep, and are as many as the cores that may be used; a user's settings stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from afbench import cores
from afbench.cores import share_cores, usable_cores

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
SETTINGS = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "KMP_LIBRARY",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@pytest.fixture
def bare(monkeypatch):
    """An environment without settings for threads, on a process that may run on 8 cores."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")  # so that what is set in between is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr(cores, "_allowed_cores", lambda: 8)
    return monkeypatch


@pytest.fixture
def system(tmp_path, bare):
    """Write a system's files: its control groups as ``/proc`` tells them, and their limits."""

    def write(groups, limits):
        for name, text in {"proc/self/cgroup": groups, **limits}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/a/b/cpu.max": "50000 100000\n"}, 1),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        ({"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ({"sys/fs/cgroup/unified/a/b/cpu.max": "400000 100000\n"}, 4),
        ({"sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n"}, 8),
        ({"sys/fs/cgroup/a/b/cpu.max": "nonsense\n"}, 8),
        ({}, 8),
    ],
)
def test_cores_follow_the_quota_of_every_group_around_the_process(system, limits, expected):
    assert usable_cores(system("0::/a/b\n", limits)) == expected


def test_cores_follow_a_quota_of_version_1(system):
    groups = "4:memory:/a\n2:cpu,cpuacct:/docker/1234\n0::/\n"
    limits = {"cpu.cfs_quota_us": "250000\n", "cpu.cfs_period_us": "100000\n"}
    assert (
        usable_cores(system(groups, {f"sys/fs/cgroup/cpu/{name}": text for name, text in limits.items()}))
        == 3
    )
    limits["cpu.cfs_quota_us"] = "-1\n"
    assert (
        usable_cores(system(groups, {f"sys/fs/cgroup/cpu/{name}": text for name, text in limits.items()}))
        == 8
    )


def test_cores_follow_the_affinity(monkeypatch, tmp_path):
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_threads_soon_wait_asleep_and_are_left_as_many_as_they_are_without_a_quota(bare):
    bare.setattr(cores, "usable_cores", lambda: 8)
    share_cores()
    assert {name: os.environ[name] for name in SETTINGS if name in os.environ} == cores.WAIT_BRIEFLY


def test_a_quota_becomes_the_number_of_threads(bare):
    bare.setattr(cores, "usable_cores", lambda: 3)
    share_cores()
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENCV_FOR_THREADS_NUM"] == "3"


@pytest.mark.parametrize("name", SETTINGS)
def test_what_the_environment_says_of_threads_stands(bare, name):
    bare.setattr(cores, "usable_cores", lambda: 3)
    bare.setenv(name, "1")
    share_cores()
    assert os.environ[name] == "1"
    if name in SETTINGS[:4]:
        assert [other for other in cores.WAIT_BRIEFLY if other in os.environ] == (
            [name] if name in cores.WAIT_BRIEFLY else []
        )
    if name == "MKL_NUM_THREADS":
        assert "OMP_NUM_THREADS" not in os.environ


def test_the_command_line_sets_it_before_any_library_is_loaded():
    """NumPy's and torch's libraries read the environment once, when they are loaded."""
    lines = (
        "import sys",
        "from afbench import cli",
        "cli.share_cores = lambda: print(sorted({'numpy', 'torch', 'cv2', 'pyarrow'} & set(sys.modules)))",
        "sys.argv[1:] = ['--version']",
        "cli.main()",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == "[]"


def test_importing_afbench_changes_nothing_in_the_environment():
    """It may be a notebook's process."""
    lines = (
        "import os",
        "import afbench, afbench.cli, afbench.workflows.generation.generate",
        f"assert not set({SETTINGS}) & set(os.environ)",
    )
    bare = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, env=bare)


def test_scripts_that_load_torch_set_it_before():
    scripts = [path.read_text() for path in SCRIPTS.iterdir() if path.is_file()]
    loaders = [
        text
        for text in scripts
        if re.search("^(import torch|from afbench.workflows.generation.generate)", text, re.M)
    ]
    assert len(loaders) >= 5
    for text in loaders:
        assert 0 < text.index("share_cores()  # before") < text.index("\nimport argparse")
