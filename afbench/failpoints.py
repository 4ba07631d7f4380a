"""Make writes fail on purpose, for tests: ``AFBENCH_FAILPOINTS=commit.replace=3:ENOSPC,commit.fsync=2:kill``.

Each entry is ``SITE=WHICH:ACTION``. A site is a name that the code passes to ``reach``; WHICH counts the calls of
the site in this process from 1, or is ``*`` for every call. ACTION is the name of an errno (``ENOSPC``, ``EDQUOT``,
``EIO``), which is raised as the system would; ``kill``, which sends SIGKILL to the process; ``stop``, a Ctrl-C; or a
pause in milliseconds, ``20ms``. Unset, a site costs one look into the environment.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import time
from collections import Counter

from .core import UsageError

VARIABLE = "AFBENCH_FAILPOINTS"
SITES = ("commit.write", "commit.fsync", "commit.replace", "commit.done")
"""In the order a commit passes them: before its bytes are written, before fsync, before the rename, after it."""

_ENTRY = re.compile(r"([a-z.]+)=(\*|[1-9][0-9]*):([A-Z0-9]+|kill|stop|[0-9]+ms)")
_reached: Counter[str] = Counter()


def reach(site: str) -> None:
    """Raise, kill or wait where the environment asks for it at this call of a site; do nothing for users.

    Raises:
        OSError: the fault asked for.
        KeyboardInterrupt: for ``stop``.
        UsageError: if the variable cannot be read.
    """
    failpoints = os.environ.get(VARIABLE)
    if not failpoints:
        return
    _reached[site] += 1
    for entry in failpoints.split(","):
        name, which, action = _parse(entry)
        if name == site and which in ("*", str(_reached[site])):
            _act(action)


def _parse(entry: str) -> tuple[str, str, str]:
    match = _ENTRY.fullmatch(entry.strip())
    is_known = match and match[1] in SITES and (not match[3].isupper() or hasattr(errno, match[3]))
    if not match or not is_known:
        raise UsageError(
            f"{VARIABLE} must be SITE=WHICH:ACTION with a site of {', '.join(SITES)}; found '{entry}'"
        )
    return match[1], match[2], match[3]


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        raise KeyboardInterrupt
    elif action.endswith("ms"):
        time.sleep(int(action.removesuffix("ms")) / 1000)
    else:
        code = getattr(errno, action)
        raise OSError(code, os.strerror(code))
