"""Faults on purpose: the sites that contributors can name, and what a run does about them."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from afbench import failpoints
from afbench.core import AfbenchError, UsageError
from afbench.files import commit_bytes

pytestmark = pytest.mark.reliability("R3")


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the variable, with no site reached yet."""

    def ask(text: str) -> None:
        monkeypatch.setenv(failpoints.VARIABLE, text)
        monkeypatch.setattr(failpoints, "_reached", Counter())

    return ask


@pytest.mark.parametrize("site", failpoints.SITES)
@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO"])
def test_an_error_at_the_named_call_of_a_site_is_one_error_and_leaves_no_temporary_file(
    ask: Any, tmp_path: Path, site: str, name: str
) -> None:
    path = tmp_path / "file"
    ask(f"{site}=2:{name}")
    commit_bytes(path, b"one")
    with pytest.raises(AfbenchError) as raised:
        commit_bytes(path, b"two")
    assert os.strerror(getattr(errno, name)) in str(raised.value)
    # only after the rename is it the new one, and then wholly
    assert path.read_bytes() == (b"two" if site == "commit.done" else b"one")
    assert list(tmp_path.iterdir()) == [path]
    commit_bytes(path, b"three")
    assert path.read_bytes() == b"three"


def test_several_sites_pauses_and_stops_can_be_asked_for_at_once(ask: Any, tmp_path: Path) -> None:
    ask("commit.fsync=*:30ms, commit.replace=2:stop")
    started = time.monotonic()
    commit_bytes(tmp_path / "file", b"one")
    assert time.monotonic() - started >= 0.03
    with pytest.raises(KeyboardInterrupt):
        commit_bytes(tmp_path / "file", b"two")


def test_a_kill_leaves_the_old_file_whole(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from afbench.files import commit_bytes\n"
        "for number in range(9): commit_bytes(Path('file'), b'%d' % number)"
    )
    environment = {**os.environ, failpoints.VARIABLE: "commit.replace=3:kill"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL and (tmp_path / "file").read_bytes() == b"1"
    assert len(list(tmp_path.glob("file.tmp.*"))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "commit.replace",
        "commit.sync=1:EIO",
        "commit.replace=0:EIO",
        "commit.replace=1:EWHAT",
        "x",
        ",commit.done=1:kill",
    ],
)
def test_a_variable_that_cannot_be_read_is_said_in_one_line(ask: Any, tmp_path: Path, text: str) -> None:
    ask(text)
    with pytest.raises(UsageError, match=failpoints.VARIABLE):
        commit_bytes(tmp_path / "file", b"one")
    assert not (tmp_path / "file").exists()
