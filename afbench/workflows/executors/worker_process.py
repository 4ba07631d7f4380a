"""A worker as a process of its own, that does not outlive the one that started it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback

from afbench.cores import share_cores
from afbench.crash import crash_line
from afbench.interrupts import STOPPED, catch_signals, raise_if_stopped, was_stopped

_GRACE_SECONDS = 30


def main() -> None:
    """A job from stdin, its end to stdout; stops when the process that holds the other end of stdin is gone."""
    catch_signals()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a user's own localizer prints is no answer
    try:
        text = sys.stdin.readline()
        threading.Thread(target=_follow, daemon=True).start()
        share_cores()
        from .worker import run_job  # seconds of imports, during which it can be stopped

        told = run_job(text)
        if "error" in told:
            raise_if_stopped()
    except KeyboardInterrupt:
        sys.exit(STOPPED)
    except Exception as error:
        if was_stopped():
            sys.exit(STOPPED)
        traceback.print_exc()
        sys.exit(crash_line(error))  # the last line is what the command that started it shows
    answer.write(json.dumps(told))
    answer.close()


def _follow() -> None:
    # not sys.stdin, whose lock a daemon thread must not hold when the interpreter ends
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)
