"""Freed memory is kept, where nobody asked for something else."""

import os
import platform
import subprocess
import sys

import pytest

from afbench import cli
from afbench.allocator import keep_freed_memory

GLIBC = platform.libc_ver()[0] == "glibc"
COUNT_FAULTS = """
import resource, sys
import numpy as np
from afbench.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def touch():
    return [np.ones(size << 20, np.uint8) for size in (3, 40, 7)]
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(kind):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS, kind], capture_output=True, text=True, check=True, env=bare
    )
    return int(done.stdout)


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_blocks_are_used_again_without_the_system_handing_out_new_pages():
    assert faults("keep") < faults("leave") / 10  # the system may hand out pages of many sizes


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "1000"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_max=3")]
)
def test_what_the_environment_says_of_malloc_stands(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not keep_freed_memory()


def test_the_command_line_keeps_it(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "keep_freed_memory", lambda: asked.append(True))
    monkeypatch.setattr(sys, "argv", ["afbench", "--version"])
    with pytest.raises(SystemExit):
        cli.main()
    assert asked
